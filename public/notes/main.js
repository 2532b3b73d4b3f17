// Field notes: written all day without network, while the access token expires, and sent in the
// evening. Nobody is asked to sign in again, and nothing in here handles a token.
import { createTokenManager } from 'tokenward'
import { createNotes } from './notes.js'
import { watchForUpdate } from './update.js'
import { createView } from './view.js'

const $ = (id) => document.getElementById(id)

const auth = createTokenManager('/notes/sw.js')
// For the console of the developer tools.
globalThis.auth = auth

let session
let unsent = 0
/** Has the server been asked, if it can be? Until then a stale session says nothing. */
let hasLoaded = false

const notes = createNotes(auth, (shown, count) => {
  unsent = count
  view.show(shown)
  showState()
})
const view = createView(notes, ({ message }) => say(`This could not be saved: ${message}`))

const changes = (count) => (count === 1 ? '1 change' : `${count} changes`)

/** One quiet line. It is read out when it changes. */
const showState = () => {
  // What the browser says of the network is not always so; that no token is to be had is.
  const isOffline = session && (!navigator.onLine || (hasLoaded && session.state === 'stale'))
  const parts = [
    isOffline ? 'Offline: changes are kept.' : '',
    unsent > 0 ? `${changes(unsent)} not sent yet.` : '',
  ]
  const text = parts.filter(Boolean).join(' ')
  if ($('state').textContent !== text) $('state').textContent = text
}

const say = (text = '') => {
  $('notice').textContent = text
  $('notice').hidden = text === ''
}

const explain = ({ code, message }) => {
  // Without a network the browser may still believe that there is one.
  const isOffline = code === 'offline' || code === 'metadata_unreachable'
  say(isOffline ? 'Signing in needs the network.' : `${code}: ${message}`)
}

const showSession = async (next) => {
  session = next
  const user = session?.claims.sub
  $('name').textContent = session ? (session.claims.name ?? user) : ''
  for (const id of ['account', 'app']) $(id).hidden = session === undefined
  for (const id of ['welcome', 'sign-in']) $(id).hidden = session !== undefined
  view.setUser(user)
  showState()
  await notes.setUser(user)
}

const reasons = {
  logout: '',
  ended: 'Please sign in again. What is not sent yet is kept until then.',
  user_changed: 'Somebody else has signed in.',
  storage_cleared: 'Please sign in again.',
}

auth.onChange(async (event) => {
  switch (event.type) {
    case 'signed-in':
    case 'renewed':
      say()
      await showSession(event.session)
      return notes.sync()
    case 'state':
      return showSession(event.session)
    case 'login-required':
      // The notes stay, and can be written; only sending needs the user.
      say('Please sign in again, so that your changes can be sent.')
      $('sign-in').hidden = false
      return
    case 'signed-out':
      say(reasons[event.reason])
      return showSession(undefined)
    case 'problem':
      return explain(event.error)
  }
})

const askToLeave = (count) =>
  new Promise((resolve) => {
    $('unsent-text').textContent = `${changes(count)} on this device would be lost.`
    $('unsent').returnValue = 'stay'
    $('unsent').addEventListener('close', () => resolve($('unsent').returnValue === 'leave'), {
      once: true,
    })
    $('unsent').showModal()
  })

$('login').addEventListener('click', () => auth.login().catch(explain))

$('logout').addEventListener('click', async () => {
  const count = unsent + view.drafts()
  if (count > 0 && !(await askToLeave(count))) return
  view.forgetDrafts()
  await notes.forget()
  await auth.logout().catch(explain)
})

addEventListener('offline', showState)
addEventListener('online', () => {
  showState()
  notes.sync()
})
document.addEventListener('visibilitychange', () => {
  if (document.visibilityState === 'visible') notes.sync()
})

watchForUpdate((use) => {
  $('update').hidden = false
  $('use-update').onclick = use
})

const start = async () => {
  await showSession(await auth.session())
  // A first visit, or a forced reload: without the worker the API would answer 401.
  if (!navigator.serviceWorker.controller) await auth.ready
  await notes.load()
  hasLoaded = true
  showState()
  await notes.sync()
}
start().catch(explain)
