import * as Ariakit from "@ariakit/react";
import type { ReactNode } from "react";

/** A modal dialog: focus stays inside it, Esc closes it, and focus returns to where it was. */
export function Panel({
  open,
  close,
  title,
  testId,
  children,
}: {
  open: boolean;
  close: () => void;
  title: string;
  testId: string;
  children: ReactNode;
}) {
  return (
    <Ariakit.Dialog
      open={open}
      onClose={close}
      unmountOnHide
      className="panel"
      backdrop={<div className="backdrop" />}
      data-testid={testId}
    >
      <header>
        <Ariakit.DialogHeading>{title}</Ariakit.DialogHeading>
        <Ariakit.DialogDismiss className="button quiet-button" data-testid={`${testId}-close`}>
          Close
        </Ariakit.DialogDismiss>
      </header>
      {children}
    </Ariakit.Dialog>
  );
}
