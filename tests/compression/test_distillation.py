"""The student's loss: its least value, its gradient, its refusals; and a student that learns."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.closeness import assert_same
from tutorlib.compression.distillation import Distillation, soft_cross_entropy


def test_least_where_both_agree_and_then_it_is_the_teacher_s_entropy():
    torch.manual_seed(0)
    teacher, other = torch.randn(5, 3, 7), torch.randn(5, 3, 7)
    p = teacher.softmax(-1)
    entropy = -(p * p.log()).sum(-1).mean()
    assert_same(soft_cross_entropy(teacher + 3, teacher), entropy)  # logits are known up to a constant
    assert soft_cross_entropy(other, teacher) > entropy


def test_a_teacher_that_is_sure_is_a_hard_target():
    logits, targets = torch.randn(6, 4), torch.tensor([0, 1, 2, 3, 0, 1])
    assert_same(soft_cross_entropy(logits, 1000.0 * F.one_hot(targets, 4)), F.cross_entropy(logits, targets))


def test_the_gradient_tends_to_that_of_a_squared_distance():
    """For a high temperature: (z - v) / V a logit, both centered (Hinton et al. 2015, equation 4)."""
    torch.manual_seed(0)
    student, teacher = torch.randn(1, 5, dtype=torch.float64, requires_grad=True), torch.randn(1, 5, dtype=torch.float64)
    for temperature, close in ((100.0, 0.02), (1e4, 2e-3)):
        gradient, = torch.autograd.grad(soft_cross_entropy(student, teacher, temperature), student)
        expected = ((student - student.mean()) - (teacher - teacher.mean())) / 5
        assert (gradient - expected).abs().max() < close


def test_no_gradient_goes_to_the_teacher():
    teacher = torch.randn(2, 3, requires_grad=True)
    soft_cross_entropy(torch.randn(2, 3, requires_grad=True), teacher).backward()
    assert teacher.grad is None


@pytest.mark.parametrize("soft", [0.0, 0.3, 1.0])
def test_a_share_of_each(soft):
    torch.manual_seed(0)
    teacher, model = nn.Sequential(nn.Dropout(0.5), nn.Linear(4, 6)), nn.Linear(4, 6)
    inputs, targets = torch.randn(3, 5, 4), torch.randint(6, (3, 5))
    found = Distillation(teacher, soft, temperature=2.0)(model, (inputs, targets))
    hard = F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten())
    said = soft_cross_entropy(model(inputs), teacher[1](inputs), 2.0)
    assert_same(found, soft * said + (1 - soft) * hard)
    assert not teacher.training


def test_a_student_learns_what_no_label_says():
    """All labels are 0; the teacher's word alone can teach the rest."""
    torch.manual_seed(0)
    teacher, student = nn.Linear(4, 3), nn.Linear(4, 3)
    inputs, loss = torch.randn(200, 4), Distillation(teacher, 1.0)
    optimizer = torch.optim.Adam(student.parameters(), lr=0.05)
    for _ in range(300):
        optimizer.zero_grad()
        loss(student, (inputs, torch.zeros(200, dtype=torch.long))).backward()
        optimizer.step()
    unseen = torch.randn(500, 4)
    assert (student(unseen).softmax(-1) - teacher(unseen).softmax(-1)).abs().max() < 0.02


@pytest.mark.parametrize("call, complaint", [
    (lambda: soft_cross_entropy(torch.ones(2, 3), torch.ones(2, 4)), r"one shape, got \(2, 3\) and \(2, 4\)"),
    (lambda: soft_cross_entropy(torch.ones(2, 3), torch.ones(2, 3), 0.0), "temperature must be above 0, got 0.0"),
    (lambda: Distillation(nn.Linear(2, 2), 1.5), "soft must be a share from 0 to 1, got 1.5"),
    (lambda: Distillation(nn.Linear(2, 2), temperature=-1.0), "temperature must be above 0, got -1.0"),
    (lambda: Distillation(nn.Linear(2, 2))(nn.Linear(2, 2), (torch.ones(1, 2), torch.tensor([2]))), "targets")])
def test_wrong_arguments_are_refused(call, complaint):
    with pytest.raises(ValueError, match=complaint):
        call()
