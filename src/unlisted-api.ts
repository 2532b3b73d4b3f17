/** Origins of which the console has been told, or has not to be. */
const known = new Set<string>()

/**
 * Says in the console which requests of this page are answered 401 by an origin that no entry of
 * `apis` names: a wrong port, a forgotten entry. For the development build. The worker declines
 * such requests, so it does not see their answers, but the page's own list of them shows.
 *
 * @param apis The origins that the entries name
 */
export const watchUnlisted = (apis: readonly string[]) => {
  for (const origin of [location.origin, ...apis]) known.add(origin)
  const observer = new PerformanceObserver((list) => {
    for (const entry of list.getEntries() as PerformanceResourceTiming[]) {
      const { name, initiatorType, responseStatus } = entry
      if (responseStatus !== 401 || !/^(fetch|xmlhttprequest)$/.test(initiatorType)) continue
      const { origin } = new URL(name)
      if (known.has(origin)) continue
      known.add(origin)
      console.warn(
        `tokenward: ${origin} has answered 401, and no entry of \`apis\` in the service worker ` +
          'names this origin, so requests to it go without a token. If it is an API of yours, ' +
          'add it there; mind the port.',
      )
    }
  })
  observer.observe({ type: 'resource', buffered: true })
}
