"""As much of PyTorch as ``TorchDataset`` needs, where PyTorch is not installed."""
