import type { ReactNode } from "react";
import type { Loaded } from "./useLoaded";

export function Loading<T>({ of, children }: { of: Loaded<T>; children: (value: T) => ReactNode }) {
  if (of.state === "ready") return <>{children(of.value)}</>;
  return of.state === "failed" ? <p className="fault">{of.message}</p> : <p className="quiet">Reading…</p>;
}
