"""What the fuzzer is made of: broken inputs, and what must read them."""
