import { useApp } from "../../context";
import { shortRate } from "../../data/rates";
import type { SampledAction } from "../../data/schema";
import { format } from "../../route/route";
import { Folded } from "../../ui/Folded";
import { LogText } from "../../ui/LogText";
import { Heat } from "./Heat";

/** The individual samples, thoughts included. */
export function SampleList({ action, turn }: { action: SampledAction; turn: number }) {
  const { run, params } = useApp();
  const channel = run.head.heat.find((each) => each === params.channel);
  return (
    <ol className="sample-texts">
      {action.samples.map((sample, i) => {
        const number = String(sample.number);
        const repeated = sample.text === undefined && i > 0 && !(channel && sample.heat);
        return (
          <li
            key={`${number}/${sample.step ?? ""}`}
            className={number === params.sample ? "linked" : ""}
            data-testid={`sample-${number}`}
          >
            <p className="sample-facts">
              <a href={format({ ...params, view: "turn", turn: run.turnId(turn), sample: number })}>Sample {number}</a>
              <span>{sample.tokens} tokens</span>
              {sample.seed !== undefined && <span>seed {sample.seed}</span>}
              {sample.step !== null && <span>training step {sample.step}</span>}
              {sample.reward !== null && <span>reward {shortRate(sample.reward)}</span>}
              {sample.finish === "length" && <span className="tag warn">cut off</span>}
              {sample.error && (
                <span className="tag warn">
                  <LogText text={sample.error} />
                </span>
              )}
              {repeated && <span className="quiet">same text as the first</span>}
            </p>
            {channel && sample.heat ? (
              <Heat heat={sample.heat} channel={channel} />
            ) : (
              !repeated && (
                <Folded text={sample.text ?? action.text}>
                  {(shown) => (
                    <pre className="code">
                      <LogText text={shown} />
                    </pre>
                  )}
                </Folded>
              )
            )}
          </li>
        );
      })}
    </ol>
  );
}
