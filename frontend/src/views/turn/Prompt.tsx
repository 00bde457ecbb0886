import { useApp } from "../../context";
import { promptText } from "../../turn/prompt";
import { Folded } from "../../ui/Folded";
import { LogText } from "../../ui/LogText";
import { Loading } from "../../ui/Loading";
import { useLoaded } from "../../ui/useLoaded";

/** The rendered prompt: template, tools and all. */
export function Prompt({ turn }: { turn: number }) {
  const { run } = useApp();
  const { prompt, prompt_slot } = run.index.turns;
  const [chunk, slot] = [prompt[turn] ?? -1, prompt_slot[turn] ?? -1];
  const loaded = useLoaded(async () => {
    if (chunk < 0) return null;
    const prompts = (await run.chunks.get(chunk)).prompts ?? [];
    const { tokens, cut } = prompts[slot] ?? { tokens: 0, cut: "" };
    return { text: promptText(prompts, slot), tokens, cut };
  }, [run, chunk, slot]);
  return (
    <Loading of={loaded}>
      {(value) =>
        value === null ? (
          <p className="notice">The page has no rendered prompt for this turn. The notices of the overview say why.</p>
        ) : (
          <div data-testid="prompt">
            <p className="quiet">
              {value.tokens.toLocaleString("en")} tokens, {value.text.length.toLocaleString("en")} characters
            </p>
            {value.cut && (
              <p className="notice cut" data-testid="cut">
                ✂ {value.cut}
              </p>
            )}
            <Folded text={value.text} most={20_000}>
              {(shown) => (
                <pre className="code prompt" tabIndex={0} aria-label="Rendered prompt">
                  <LogText text={shown} />
                </pre>
              )}
            </Folded>
          </div>
        )
      }
    </Loading>
  );
}
