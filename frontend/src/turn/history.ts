import { mean } from "../data/rates";
import type { TurnSamples } from "../data/schema";

/** What happened to a turn at one training step. */
export interface StepRewards {
  step: number;
  rewards: number[];
  mean: number | null;
  unknown: number;
}

export function byStep(samples: TurnSamples): StepRewards[] {
  const steps = new Map<number, { rewards: number[]; unknown: number }>();
  for (const action of samples.actions) {
    for (const sample of action.samples) {
      if (sample.step === null) continue;
      const entry = steps.get(sample.step) ?? { rewards: [], unknown: 0 };
      steps.set(sample.step, entry);
      if (sample.reward === null) entry.unknown++;
      else entry.rewards.push(sample.reward);
    }
  }
  return [...steps]
    .sort(([a], [b]) => a - b)
    .map(([step, { rewards, unknown }]) => ({ step, rewards, unknown, mean: mean(rewards) }));
}
