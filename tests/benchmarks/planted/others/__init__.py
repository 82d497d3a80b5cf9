"""Planted runs of other trainers: nanoGPT as it is published, and Hugging Face's Trainer; what is kept is their logs.

``python -m tests.benchmarks.planted.others make`` runs them on a card (nanoGPT's folder and the corpus are given, not
kept here), ``… merge`` adds what was made to the suite, ``… score`` scores the explainer on it.
"""
