// Who is signed in, and the buttons around it.

const $ = (id) => document.getElementById(id)

const time = (ms) => new Date(ms).toLocaleTimeString()

const span = (ms) => {
  const seconds = Math.abs(Math.round(ms / 1000))
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, '0')}`
}

const expiry = (at) => {
  if (at === undefined) return 'the server did not say until when'
  const left = at - Date.now()
  return left > 0 ? `ends in ${span(left)}` : `ended ${span(left)} ago; the next call renews it`
}

const reasons = {
  logout: '',
  ended: 'Signed out: the server no longer knows you.',
  user_changed: 'Signed out: somebody else has signed in.',
  storage_cleared: 'Signed out: what was stored is gone.',
}

export const showAccount = (auth) => {
  let session

  const show = (next) => {
    session = next
    $('name').textContent = session
      ? (session.claims.name ?? session.claims.sub)
      : 'Nobody is signed in'
    $('state').textContent = session?.state ?? ''
    $('state').dataset.state = session?.state ?? ''
    $('scope').textContent = session?.scope ?? ''
    $('since').textContent = session ? `since ${time(session.since)}` : ''
    $('login').hidden = session !== undefined
    for (const id of ['state', 'details', 'renew', 'logout']) $(id).hidden = session === undefined
    tick()
  }
  const tick = () => {
    if (session) $('expires').textContent = expiry(session.accessTokenExpiresAt)
  }
  setInterval(tick, 1000)

  const say = (text = '') => {
    $('notice').textContent = text
    $('notice').hidden = text === ''
  }
  const explain = (error) => say(`${error.code}: ${error.message}`)

  auth.onChange((event) => {
    switch (event.type) {
      case 'signed-in':
      case 'renewed':
        say()
        return show(event.session)
      case 'state':
        return show(event.session)
      case 'login-required':
        // Nobody is signed out yet, but without the user there is no new token.
        $('login').hidden = false
        return explain(event.error)
      case 'signed-out':
        say(reasons[event.reason])
        return show(undefined)
      case 'problem':
        return explain(event.error)
    }
  })
  auth.session().then(show, explain)
  auth.ready.catch(explain)

  const onClick = (id, action) =>
    $(id).addEventListener('click', async () => {
      say()
      $(id).disabled = true
      await action().catch(explain)
      $(id).disabled = false
    })

  onClick('login', () => auth.login())
  onClick('logout', () => auth.logout())
  onClick('renew', () => auth.renew())
  onClick('check', async () => {
    const found = await auth.checkSession()
    if (found) show(found)
    say(found ? 'The server knows you.' : 'The server knows nobody here.')
  })
}
