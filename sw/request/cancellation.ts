import { CANCEL_MARK } from '../../src/shared/protocol.js'

/** How many ids are remembered whose requests have not come yet. Most never do. */
const mostEarly = 100

/** The requests under way that their page can cancel: see `src/abortable-fetch.ts`. */
export const createCancellation = () => {
  const underWay = new Map<string, AbortController>()
  /** A message may overtake the request that it is about. */
  const early = new Set<string>()

  const idOf = ({ url }: Request): string => url.split(CANCEL_MARK)[1] ?? ''

  return {
    /** Lets the page cancel the request until `work` is over. */
    during: (request: Request, work: () => Promise<Response>): Promise<Response> => {
      const id = idOf(request)
      if (!id) return work()
      const controller = new AbortController()
      underWay.set(id, controller)
      if (early.delete(id)) controller.abort()
      return work().finally(() => underWay.delete(id))
    },

    /** Aborted once the page has cancelled the request; undefined if it never can. */
    signalOf: (request: Request): AbortSignal | undefined => underWay.get(idOf(request))?.signal,

    /** An invented id does nothing: real ones cannot be guessed, and only the latest are kept. */
    cancel: (id: string): void => {
      underWay.get(id)?.abort()
      if (underWay.has(id)) return
      if (early.size === mostEarly) early.clear()
      early.add(id.slice(0, 36))
    },
  }
}
