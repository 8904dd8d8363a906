"""``IterableDataset`` and persistent workers in separate processes."""

from types import SimpleNamespace

_info = None


class IterableDataset:
    pass


def get_worker_info():
    return _info


def work(dataset, number, workers, requests, answers):
    """Answer each request with the rows of an epoch, as a persistent worker does."""
    global _info
    _info = SimpleNamespace(id=number, num_workers=workers)
    while (request := requests.get()) is not None:
        if request == "state":
            answers.put(dataset.state_dict())
        elif isinstance(request, dict):
            dataset.load_state_dict(request)
            answers.put(None)
        else:
            batches = iter(dataset)
            answers.put([n for _, batch in zip(range(request), batches, strict=False) for n in batch])


class PersistentWorkers:
    """What ``DataLoader(..., num_workers=2, persistent_workers=True)`` starts."""

    def __init__(self, dataset, context, workers=2):
        self._queues = [(context.Queue(), context.Queue()) for _ in range(workers)]
        self._processes = [
            context.Process(target=work, args=(dataset, n, workers, *queues), daemon=True)
            for n, queues in enumerate(self._queues)
        ]
        for process in self._processes:
            process.start()

    def ask(self, request):
        for requests, _ in self._queues:
            requests.put(request)
        return [answers.get(timeout=60) for _, answers in self._queues]

    def close(self):
        for requests, _ in self._queues:
            requests.put(None)
        for process in self._processes:
            process.join(30)
