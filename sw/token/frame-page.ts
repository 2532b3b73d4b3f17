import type { FrameEnd, PageCalls } from '../../src/shared/protocol.js'
import type { Page, Platform } from '../platform.js'

/** Calls a page and waits for its answer, `limit` ms at most; undefined if none came. */
export type CallPage = <Name extends keyof PageCalls>(call: {
  page: Page
  name: Name
  input: Parameters<PageCalls[Name]>[0]
  limit: number
}) => Promise<Awaited<ReturnType<PageCalls[Name]>> | undefined>

/** The pages of the app in which a hidden frame can run. */
export interface FramePages {
  /** Those that can open a frame now, the best one first; `preferred` is the best if it can. */
  find(preferred: string | undefined): Promise<Page[]>
  /** Runs a hidden frame in a page; undefined if the page gives no answer in time. */
  run(page: Page, url: string): Promise<FrameEnd | 'gone' | undefined>
}

/** How long pages have, in ms, to say that they can open a frame. */
const probeLimit = 1_000
/** How often, in ms, the worker looks whether the page with the frame is still there. */
export const pageCheckInterval = 500

/**
 * Creates the way to the pages in `root`.
 *
 * @param doneUrl Where a frame ends
 * @param limit ms for one frame
 */
export function createFramePages({
  root,
  doneUrl,
  limit,
  callPage,
  platform: { wait, pages },
}: {
  root: string
  doneUrl: string
  limit: number
  callPage: CallPage
  platform: Pick<Platform, 'wait' | 'pages'>
}): FramePages {
  const probe = async (page: Page, preferred: string | undefined) => {
    const call = callPage({ page, name: 'probe', input: undefined, limit: probeLimit })
    const answer = await call.catch(() => undefined)
    const rank =
      (page.id === preferred ? 4 : 0) + (answer?.visible ? 2 : 0) + (page.focused ? 1 : 0)
    return { page, able: answer?.able, rank }
  }

  /** Resolves once the page is gone; stops looking when `stop` is aborted. */
  const whenGone = async (page: Page, stop: AbortSignal): Promise<'gone'> => {
    do await wait(pageCheckInterval, stop)
    while (await pages.exists(page.id))
    return 'gone'
  }

  return {
    find: async (preferred) => {
      const open = (await pages.list(root)).filter(({ topLevel }) => topLevel)
      const probed = await Promise.all(open.map((page) => probe(page, preferred)))
      return probed
        .filter(({ able }) => able)
        .sort((a, b) => b.rank - a.rank)
        .map(({ page }) => page)
    },

    run: async (page, url) => {
      const stop = new AbortController()
      const input = { url, doneUrl, limit }
      try {
        const frame = callPage({ page, name: 'openFrame', input, limit: limit + probeLimit })
        return await Promise.race([frame, whenGone(page, stop.signal)])
      } finally {
        stop.abort()
      }
    },
  }
}
