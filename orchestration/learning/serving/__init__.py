"""Predictions on request: the champion in memory, features of now, and a log that loses none.

What belongs here: following the registry (``champions``), scoring a request (``predictor``), writing down
what was predicted (``log``) and bringing that to the lakehouse (``landing``, ``assets``). What does not:
HTTP (``feature_store.server``), batches (``predictions``) and who becomes champion (``registry``).
"""
