"""The package in third_party has a test suite of its own, which test_third_party.py runs as its owner would."""

collect_ignore = ["third_party"]
