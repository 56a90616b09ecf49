"""A loop of one's own: no Stable-Baselines3, no PyTorch, nothing but Gymnasium and the changing environment."""

import gymnasium as gym

import envs  # noqa: F401 (registers the Perennial ids)

env = gym.make("Perennial/CartPolePermuted-v0", seed=1, scale=0.05)
env.action_space.seed(0)
env.reset(seed=0)
for _ in range(5000):
    *_, terminated, truncated, info = env.step(env.action_space.sample())
    if "switch" in info:
        print(f"step {info['switch']['step']:,}: task {info['task']}, {info['switch']['values']}")
    if terminated or truncated:
        env.reset()
