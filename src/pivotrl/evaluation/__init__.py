"""Measures a policy on held-out turns, along held-out trajectories, in episodes and outside the task.

Every item is stored. :mod:`pivotrl.intervals` computes every number from the items, clustered by task. The functions
need neither a run directory nor a guarded verifier: any sampler, verifier and path will do.
"""

from pivotrl.evaluation.answers import accuracy_by_source as accuracy_by_source
from pivotrl.evaluation.answers import answer_accuracy as answer_accuracy
from pivotrl.evaluation.answers import evaluate_answers as evaluate_answers
from pivotrl.evaluation.answers import finer_score as finer_score
from pivotrl.evaluation.distance import Distances as Distances
from pivotrl.evaluation.distance import distances as distances
from pivotrl.evaluation.distance import score_demonstrations as score_demonstrations
from pivotrl.evaluation.divergence import action_logprobs as action_logprobs
from pivotrl.evaluation.divergence import can_score as can_score
from pivotrl.evaluation.divergence import draw_reference as draw_reference
from pivotrl.evaluation.divergence import kl_per_action as kl_per_action
from pivotrl.evaluation.divergence import kl_per_token as kl_per_token
from pivotrl.evaluation.divergence import task_kl as task_kl
from pivotrl.evaluation.episodes import evaluate_episodes as evaluate_episodes
from pivotrl.evaluation.options import Draw as Draw
from pivotrl.evaluation.options import EvaluationOptions as EvaluationOptions
from pivotrl.evaluation.progress import evaluate_progress as evaluate_progress
from pivotrl.evaluation.questions import answer_verifier as answer_verifier
from pivotrl.evaluation.questions import load_questions as load_questions
from pivotrl.evaluation.questions import text_turns as text_turns
from pivotrl.evaluation.scores import compare as compare
from pivotrl.evaluation.scores import compare_answers as compare_answers
from pivotrl.evaluation.scores import compare_episodes as compare_episodes
from pivotrl.evaluation.scores import compare_finer as compare_finer
from pivotrl.evaluation.scores import compare_progress as compare_progress
from pivotrl.evaluation.scores import compare_retention as compare_retention
from pivotrl.evaluation.scores import compare_turns as compare_turns
from pivotrl.evaluation.scores import episode_success as episode_success
from pivotrl.evaluation.scores import own_history_progress as own_history_progress
from pivotrl.evaluation.scores import own_history_success as own_history_success
from pivotrl.evaluation.scores import turn_accuracy as turn_accuracy
from pivotrl.evaluation.texts import ReferenceTexts as ReferenceTexts
from pivotrl.evaluation.texts import evaluate_retention as evaluate_retention
from pivotrl.evaluation.texts import load_retention as load_retention
from pivotrl.evaluation.turns import evaluate_turns as evaluate_turns
