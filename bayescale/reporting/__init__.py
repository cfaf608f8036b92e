"""From a fit to a paper: a folder of tables, figures and text that holds its own evidence.

Its modules are loaded one by one: the law at the medians needs no more than a document and NumPy.
"""
