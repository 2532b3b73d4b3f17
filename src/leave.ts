import { onRestored } from './bfcache.js'

/** ms after which a page that is still here is not being left any more. */
const leaveLimit = 5_000

/** Leaves the page. Resolves only if the page comes back from the back/forward cache. */
export const leaveFor = (url: string): Promise<void> =>
  new Promise((resolve) => {
    // A listener that stays does no harm: later calls of `resolve` have no effect.
    onRestored(resolve)
    location.assign(url)
  })

/** Begins a sign-in; while one is pending, returns that one instead. */
export type PendingLogin = (begin: () => Promise<never>) => Promise<never>

export function createPendingLogin(): PendingLogin {
  let pending: Promise<never> | undefined
  return (begin) => {
    if (pending) return pending
    const attempt = begin()
    pending = attempt
    const settle = () => {
      // Such a listener keeps a page out of Firefox's back/forward cache.
      removeEventListener('beforeunload', onAsked)
      if (pending === attempt) pending = undefined
    }
    // At once where the page has asked whether to leave: a user who has left does not click again.
    const onAsked = (event: BeforeUnloadEvent) =>
      setTimeout(() => (event.defaultPrevented || event.returnValue) && settle())
    addEventListener('beforeunload', onAsked)
    attempt.catch(settle)
    // The user may have stopped the navigation: the button has to work again.
    setTimeout(settle, leaveLimit)
    return attempt
  }
}
