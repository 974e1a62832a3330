"""How the guide, aipc's embedded model, is made: its text, its tokenizer, its training and its score.

This folder is not shipped. `python -m guide --out DIRECTORY`, from the repository's root and with PyTorch
installed, writes the checkpoint that is.
"""
