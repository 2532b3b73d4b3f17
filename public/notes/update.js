// A new version takes over when the user says so, and nobody's page is reloaded before.

/** @param show Called with a function that changes to the new version */
export const watchForUpdate = async (show) => {
  const registration = await navigator.serviceWorker.ready

  const offer = (worker) =>
    show(() => {
      navigator.serviceWorker.addEventListener('controllerchange', () => location.reload())
      worker.postMessage({ type: 'SKIP_WAITING' })
    })

  const watch = (worker) => {
    worker?.addEventListener('statechange', () => {
      if (worker.state === 'installed') offer(worker)
    })
  }

  if (registration.waiting) offer(registration.waiting)
  watch(registration.installing)
  registration.addEventListener('updatefound', () => watch(registration.installing))

  // An installed app stays open for days, and browsers look for updates when one is opened.
  document.addEventListener('visibilitychange', () => {
    if (document.visibilityState === 'visible') registration.update().catch(() => {})
  })
}
