"""What `bench/throughput.py` is made of: processes that train against the clock, and arithmetic on what they took."""
