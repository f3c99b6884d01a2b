"""Times and memory of convjax beside other libraries: `python -m benchmarks`."""
