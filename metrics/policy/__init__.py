"""What the policy does, and what an update makes of it: entropy, saturation, churn, the trust region, the critic's fit."""
