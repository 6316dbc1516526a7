"""What a sweep shows, from its folders: results, sheet, cross table, report, TensorBoard's run of it."""
