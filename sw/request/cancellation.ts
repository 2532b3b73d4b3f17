import { CANCEL_MARK } from '../../src/shared/protocol.js'

/** The requests under way that their page can cancel: see `src/abortable-fetch.ts`. */
export interface Cancellation {
  /** Lets the page cancel the request until `work` is over. */
  during(request: Request, work: () => Promise<Response>): Promise<Response>
  /** Aborted once the page has cancelled the request; undefined if it never can. */
  signalOf(request: Request): AbortSignal | undefined
  /** Cancels the request with this id. */
  cancel(id: string): void
}

/** How many ids are remembered whose requests have not come yet. Most never do. */
const mostEarly = 100

const idOf = ({ url }: Request): string => url.split(CANCEL_MARK)[1] ?? ''

/** Creates the list of requests that can be cancelled. */
export function createCancellation(): Cancellation {
  const underWay = new Map<string, AbortController>()
  /** A message may overtake the request that it is about. */
  const early = new Set<string>()

  return {
    during: (request, work) => {
      const id = idOf(request)
      if (!id) return work()
      const controller = new AbortController()
      underWay.set(id, controller)
      if (early.delete(id)) controller.abort()
      return work().finally(() => underWay.delete(id))
    },

    signalOf: (request) => underWay.get(idOf(request))?.signal,

    // An invented id does nothing: real ones cannot be guessed, and only the latest are kept.
    cancel: (id) => {
      underWay.get(id)?.abort()
      if (underWay.has(id)) return
      if (early.size === mostEarly) early.clear()
      early.add(id.slice(0, 36))
    },
  }
}
