/** Calls back each time this page comes back from the back/forward cache. */
export const onRestored = (callback: () => void, signal: AbortSignal): void => {
  const onShow = ({ persisted }: PageTransitionEvent) => {
    if (persisted) callback()
  }
  addEventListener('pageshow', onShow, { signal })
}
