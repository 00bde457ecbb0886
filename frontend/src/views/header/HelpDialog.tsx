import { KEY_HELP } from "../../keys/keys";
import { Legend } from "../../ui/Legend";
import { Panel } from "../../ui/Panel";

export function HelpDialog({ open, close }: { open: boolean; close: () => void }) {
  return (
    <Panel open={open} close={close} title="How to read this page" testId="help-dialog">
      <p>
        A <b>turn</b> is one place in a trajectory where the agent acts. pivotrl samples several actions there and lets
        the verifier judge them. The <b>pass rate</b> is the share that passed. A <b>pivot</b> is a turn chosen for
        training, usually because some samples pass and some fail: there is something to learn, and something to learn
        from. <b>No verdict</b> means that the verifier could not judge; it never counts as a failure.
      </p>
      <Legend />
      <h2>Search</h2>
      <p>
        The search looks into messages, actions and reasons. All words must occur at the turn. <code>order ship</code>{" "}
        finds the word “order” and words that begin with “ship”; an underscore separates words. Quotes find exactly
        these letters, also inside words: <code>"cut"</code> finds “execute”, <code>cut</code> does not. Choose “whole
        context” to find turns that had the words anywhere before them.
      </p>
      <h2>Keys</h2>
      <table className="keys">
        <tbody>
          {KEY_HELP.map(([keys, meaning]) => (
            <tr key={meaning}>
              <th scope="row">
                {keys.map((key) => (
                  <kbd key={key}>{key}</kbd>
                ))}
              </th>
              <td>{meaning}</td>
            </tr>
          ))}
        </tbody>
      </table>
      <p className="quiet">Everything is inside this file. It loads nothing from the network and sends nothing.</p>
    </Panel>
  );
}
