import type { Waiting } from './worker-events.js'

/** A request as it reaches the worker, with what the browser says about it. */
export interface Arrival {
  request: Request
  url: URL
  /** Client id of the page or worker that sent it; empty if unknown. */
  clientId: string
  /** Client id of the page that the answer to a navigation leads to; empty if unknown. */
  pageId: string
  /** Aborted once the page has cancelled the request: the request's own signal is late. */
  cancelled?: AbortSignal
  /** Keeps the worker alive for work that goes on behind the answer. */
  keepAlive(work: Promise<unknown>): void
}

/** Does a frame wait for the answer to this visit, and not a tab? Whatever it was begun for. */
export const isInFrame = ({ destination }: Pick<Request, 'destination'>): boolean =>
  /frame|embed|object/.test(destination)

/**
 * The arrival of a request.
 *
 * @param event The event that brought it; without one, its sender is unknown
 */
export const arrivalOf = (
  request: Request,
  event: Waiting & { clientId?: string; resultingClientId?: string },
  { url = new URL(request.url), cancelled }: Partial<Pick<Arrival, 'url' | 'cancelled'>> = {},
): Arrival => ({
  request,
  url,
  clientId: event.clientId ?? '',
  pageId: event.resultingClientId ?? '',
  cancelled,
  keepAlive: (work) => event.waitUntil(work.catch(() => {})),
})
