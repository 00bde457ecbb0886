import { type Request, Searcher } from "./searcher";

const searcher = new Searcher();
let last: Promise<void> = Promise.resolve();

self.onmessage = (event: MessageEvent<{ id: number; request: Request }>) => {
  const { id, request } = event.data;
  last = last.then(async () => {
    try {
      self.postMessage({ id, reply: await searcher.answer(request) });
    } catch (error) {
      self.postMessage({ id, error: String(error) });
    }
  });
};
