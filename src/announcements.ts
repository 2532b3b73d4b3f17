import { onRestored } from './bfcache.js'

/**
 * What workers with other scopes announce: they share the session, but publish its changes only
 * to their own pages.
 */
export interface Announcements {
  /** Follows the channel of this name; `ownScope` is that of the page's own worker. */
  open(name: string, ownScope: string): void
}

/**
 * Creates the page's end of the channel.
 *
 * @param parts.onHint Runs after an announcement. It has to ask the worker, since any script of the
 *   origin can send one
 * @param parts.signal Closes the channel for good
 */
export function createAnnouncements({
  onHint,
  signal,
}: {
  onHint: () => Promise<unknown>
  signal: AbortSignal
}): Announcements {
  let name = ''
  let ownScope = ''
  let channel: BroadcastChannel | undefined
  let hints = 0

  /** One `onHint` at a time and one more after it, however many announcements arrive. */
  const takeHint = async () => {
    if (hints++) return
    while (hints) {
      hints = 1
      await onHint().catch(() => {})
      hints--
    }
  }

  const close = () => channel?.close()
  const follow = () => {
    close()
    if (signal.aborted) return
    channel = new BroadcastChannel(name)
    channel.onmessage = ({ data }) => {
      if (data?.scope !== ownScope) takeHint()
    }
  }

  onRestored(follow, signal)
  // A message would make the browser drop the page from its back/forward cache.
  addEventListener('pagehide', close, { signal })
  signal.addEventListener('abort', close)

  return {
    open: (...which) => {
      ;[name, ownScope] = which
      follow()
    },
  }
}
