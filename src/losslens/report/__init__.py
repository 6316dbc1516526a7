"""Outputs of a sweep, made from its folders: results, sheet, cross table, report, TensorBoard run."""
