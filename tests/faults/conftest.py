def pytest_addoption(parser):
    parser.addoption("--fault-runs", type=int, default=None, help="Runs of each command that meet a fault.")
    parser.addoption("--fault-results", default=None, help="CSV file to which each of them is added as a line.")
