// The switches that break things. They are in demo/servers.mjs; this only presses them.

const ask = async (name, init) => (await fetch(`/demo/${name}`, init)).json()

const button = (name) => document.querySelector(`[data-switch="${name}"]`)

const show = ({ serverRunning, shortTokens }) => {
  button('toggle-server').textContent = serverRunning ? 'Stop the server' : 'Start the server'
  button('toggle-short-tokens').textContent = shortTokens
    ? 'Usual tokens (5 min)'
    : 'Short tokens (15 s)'
}

const press = async (name) => {
  show(await ask(name, { method: 'POST' }))
  if (name !== 'new-worker') return
  // Its script has just changed on the server.
  const registration = await navigator.serviceWorker.getRegistration()
  await registration?.update()
}

export const showSwitches = () => {
  for (const each of document.querySelectorAll('[data-switch]')) {
    each.addEventListener('click', async () => {
      each.disabled = true
      await press(each.dataset.switch).finally(() => {
        each.disabled = false
      })
      each.classList.add('pressed')
      setTimeout(() => each.classList.remove('pressed'), 1500)
    })
  }
  const refresh = () => ask('state').then(show)
  refresh()
  // Another tab may have pressed one.
  document.addEventListener('visibilitychange', refresh)
}
