// The live picture: every step that the worker's option `trace` reports, told by demo-trace.js.

const words = {
  'worker-started': 'worker started, its memory is empty',
  passed: 'sent without a token',
  waiting: 'waiting for a token',
  unauthorized: '401',
  'refresh-failed': 'refresh failed',
  'silent-login': 'silent login',
  'silent-login-done': 'silent login done',
  'silent-login-failed': 'silent login failed',
  'signed-in': 'signed in',
  'signed-out': 'signed out',
}

const textOf = ({ step, status, code }) =>
  (words[step] ?? step) + (step === 'answered' ? ` ${status}` : code ? `: ${code}` : '')

/** A step of the session goes on in the row whose last step is one of these. */
const follows = {
  refreshed: ['refreshing'],
  'refresh-failed': ['refreshing'],
  'silent-login': ['refresh-failed'],
  'signed-in': ['login', 'silent-login'],
  'silent-login-done': ['silent-login', 'signed-in'],
  'silent-login-failed': ['silent-login'],
}
/** These are shown with the calls that wait for them, too. */
const renewal = /^(refresh|silent-login)/
const mostRows = 60

const list = document.getElementById('picture')

const element = (name, className, ...children) => {
  const made = document.createElement(name)
  made.className = className
  made.append(...children)
  return made
}

/** A row, to which steps are added as they come. */
const createRow = ({ at, request, method, url }) => {
  const steps = element('ol', 'steps')
  const isApi = request !== undefined
  const { host, pathname } = new URL(url ?? location.href)
  const title = isApi
    ? [element('b', '', `${method ?? ''} ${url ? pathname : 'request'}`), ` ${url ? host : ''}`]
    : [element('b', '', 'Session')]
  const clock = element('time', '', new Date(at).toLocaleTimeString())
  const row = element('li', isApi ? 'api' : 'session', element('p', '', ...title, clock), steps)
  if (isApi) row.dataset.request = request
  list.prepend(row)
  while (list.children.length > mostRows) list.lastElementChild.remove()

  let last
  return {
    last: () => last,
    add: (step, shared = false) => {
      const ms = step.at - at
      const time = element('small', '', ms < 10_000 ? `${ms}` : `${Math.round(ms / 1000)} s`)
      const item = element('li', shared ? 'shared' : '', textOf(step), ' ', time)
      item.dataset.step = step.step
      if (step.status) item.dataset.status = step.status
      steps.append(item)
      if (!shared) last = step.step
    },
  }
}

/** Shows what the worker of this scope does. */
export const showPicture = (scope) => {
  const seen = new Set()
  let requests = new Map()
  let session

  const addToRequest = (step) => {
    const key = `${step.worker} ${step.request}`
    const row = requests.get(key) ?? createRow(step)
    requests.set(key, row)
    if (step.step !== 'request') row.add(step)
    if (row.last() === 'answered' || row.last() === 'failed') requests.delete(key)
  }

  const addToSession = (step) => {
    if (!follows[step.step]?.includes(session?.last())) session = createRow(step)
    session.add(step)
    if (!renewal.test(step.step)) return
    for (const row of requests.values()) {
      if (row.last() === 'waiting' || row.last() === 'unauthorized') row.add(step, true)
    }
  }

  const add = (step) => {
    const key = `${step.worker} ${step.number}`
    if (seen.has(key)) return
    seen.add(key)
    if (step.request === undefined) addToSession(step)
    else addToRequest(step)
  }

  const channel = new BroadcastChannel(`demo ${new URL(scope, location.href)}`)
  channel.onmessage = ({ data }) => data.steps?.forEach(add)
  channel.postMessage({ replay: true })

  document.getElementById('clear').addEventListener('click', () => {
    list.replaceChildren()
    requests = new Map()
    session = undefined
  })
}
