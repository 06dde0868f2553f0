"""The table of tumors is scikit-learn's, with malignant as the event."""

import pytest
import torch

from tutorlib.data.tumors import NAMES, load_tumors, read_tumors


def test_the_table_is_scikit_learns():
    from sklearn.datasets import load_breast_cancer

    theirs, ours = load_breast_cancer(), load_tumors()
    assert torch.equal(ours.inputs, torch.tensor(theirs.data))
    assert torch.equal(ours.labels, 1 - torch.tensor(theirs.target)) and ours.labels.sum() == 212
    assert [name.replace("error of ", "") .replace("mean ", "").replace("worst ", "") for name in NAMES] == [
        name.replace(" error", "").replace("mean ", "").replace("worst ", "") for name in theirs.feature_names]


def test_refuses_another_table(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("2,30\n1,2,0\n")
    with pytest.raises(ValueError, match="path: line 2 must hold 30 measures and 0 or 1, got 2 and '0'"):
        read_tumors(path)
