"""The limit for bodies that have not arrived completely."""

from chassis.http.body_budget import BodyBudget


def test_the_budget_limits_all_bodies_and_those_of_one_network():
    budget = BodyBudget(100)

    assert budget.take("192.0.2.1", 50)
    assert not budget.take("192.0.2.1", 1)
    assert budget.take("198.51.100.1", 50)
    assert not budget.take("203.0.113.1", 1)


def test_a_body_that_has_arrived_makes_room_for_another():
    budget = BodyBudget(100)
    for _ in range(3):
        assert budget.take("192.0.2.1", 50)
        budget.give_back("192.0.2.1", 50)

    assert {} == budget._taken
