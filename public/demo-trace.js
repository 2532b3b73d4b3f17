// Only for the demo: `trace` tells the pages, in all tabs, what the worker does.

globalThis.trace = (() => {
  const worker = Date.now()
  const steps = []
  const channel = new BroadcastChannel(`demo ${registration.scope}`)

  const trace = (step) => {
    const numbered = { worker, number: steps.length, ...step }
    steps.push(numbered)
    channel.postMessage({ steps: [numbered] })
  }
  // A page that has just been opened asks for what it has missed.
  channel.onmessage = ({ data }) => {
    if (data.replay) channel.postMessage({ steps })
  }
  trace({ at: worker, step: 'worker-started' })
  return trace
})()

// A new version takes over at once. That is how the demo gets a worker without memory.
addEventListener('install', () => skipWaiting())
