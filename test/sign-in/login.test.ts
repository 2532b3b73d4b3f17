import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { TokenErrorData } from '../../src/shared/errors.js'
import type { TokenWorkerOptions } from '../../sw/options/options.js'
import { protocolParams } from '../../sw/server/authorization-request.js'
import type { ActiveRecord, BegunTransaction } from '../../sw/session/records.js'
import { emptyPage } from '../../sw/sign-in/auth-response.js'
import { createTransactions } from '../../sw/sign-in/transactions.js'
import { type FakeAuthorizationServer, json } from '../support/fake-authorization-server.js'
import { settle } from '../support/fake-platform.js'
import {
  createSignIn,
  createUnitWorld,
  readDatabase,
  visitOf,
  type WorldOptions,
} from '../support/worker-parts.js'

const app = 'https://app.example/'

const createWorld = (options: WorldOptions = {}) => {
  const world = createUnitWorld(options)

  /** One worker; a second call is the same worker after a restart. */
  const start = () => {
    const worker = world.createWorker()
    const { authorizationServer, transactions, session, platform } = worker
    return {
      ...worker,
      login: createSignIn({
        config: world.config,
        server: authorizationServer,
        transactions,
        session,
        platform,
      }),
    }
  }
  const worker = start()
  const { login, transactions, store } = worker

  const visit = visitOf
  const locationOf = (response: Response) => response.headers.get('location') ?? ''

  /** Leaves for the server, for a sign-in or from a hidden frame. */
  const leave = async (more: Partial<BegunTransaction> = {}) => {
    const kind = more.kind ?? 'login'
    const ticket = await transactions.begin({ kind, returnTo: `${app}here`, ...more })
    const page = kind === 'login' ? 'login' : 'silent'
    const response = await login.leave(visit(`${app}tokenward/${page}.html?ticket=${ticket}`), page)
    return { ticket, response, url: locationOf(response) }
  }

  const arrive = (url: string | URL, request?: Partial<Request>, pageId?: string) =>
    login.arrive(visit(url, request, pageId))

  /** All the way, as this user. */
  const signIn = async (subject = 'alice', more: Partial<BegunTransaction> = {}) => {
    const { url, ticket } = await leave(more)
    const frame = more.kind ? { destination: 'iframe' as const } : {}
    const response = await arrive(world.server.authorize(url, subject), frame)
    return { ticket, response, location: locationOf(response) }
  }

  const stored = async () => (await store.read()) as ActiveRecord
  return { ...world, ...worker, start, visit, locationOf, leave, arrive, signInAs: signIn, stored }
}

describe('a sign-in', () => {
  test('begins with a one-time URL of our own (AR-07)', async () => {
    const { login } = createWorld()
    const { url } = await login.begin({ returnTo: `${app}here` })
    expect(url).toMatch(/^https:\/\/app\.example\/tokenward\/login\.html\?ticket=[\w-]{43}$/)
    expect((await login.begin({ returnTo: app })).url).not.toBe(url)
  })

  test('does not begin for a returnTo elsewhere, nor offline (AR-10, OF-08)', async () => {
    const { login, browser, store } = createWorld()
    const begin = login.begin({ returnTo: 'https://evil.example/' })
    await expect(begin).rejects.toMatchObject({ code: 'invalid_input' })
    await expect(login.begin({ returnTo: `${app}tokenward/callback.html` })).rejects.toMatchObject({
      code: 'invalid_input',
    })
    browser.online = false
    await expect(login.begin({ returnTo: app })).rejects.toMatchObject({ code: 'offline' })
    expect((await readDatabase(store.name))['transactions'] ?? []).toEqual([])
  })

  test.each([
    ...['client_id', 'code_challenge', 'code_challenge_method', 'dpop_jkt', 'id_token_hint'],
    ...['nonce', 'redirect_uri', 'request', 'request_uri', 'resource', 'response_mode'],
    ...['response_type', 'scope', 'state', 'audience'],
    ...['include_granted_scopes', 'user_scope', 'optionalScopes'],
  ])('does not begin with the parameter %s of a page (AR-13)', async (name) => {
    const begin = createWorld().login.begin({ returnTo: app, params: { [name]: 'x' } })
    await expect(begin).rejects.toMatchObject({
      code: 'invalid_input',
      message: expect.stringContaining(name),
    })
  })

  test.each([
    ...['Redirect_URI', 'CLIENT_ID', 'redirect.uri', 'redirect uri', 'redirect[uri', 'state[]'],
    ...[' state', 'state ', 'state\u0000', 'scope\n', 'nonce%00', 'nonce&state', 'scopé', ''],
    ...['request\u200b', '_\u0000', 'id_token_hint\t', 'ID_TOKEN_HINT', 'audience ', 'a=b', 'a+b'],
  ])('does not begin with %j either, which some server may take for one (AR-13)', async (name) => {
    const begin = createWorld().login.begin({ returnTo: app, params: { [name]: 'x' } })
    await expect(begin).rejects.toMatchObject({ code: 'invalid_input' })
  })

  test('sends what is its own once and unchanged, whatever a page adds (AR-13)', async () => {
    const world = createWorld({
      options: { scope: 'openid email', authorizationParams: { audience: 'a', prompt: 'login' } },
    })
    const { login, visit, locationOf, config, server } = world
    const own = [...protocolParams, 'audience']
    const odd = fc.constantFrom('', ' ', '.', '[', '[]', '\u0000', '\t', '%00', '&', '=', '_')
    const name = fc.oneof(
      fc.constantFrom(...own, 'login_hint', 'prompt', 'max_age', 'acr_values', 'ui_locales'),
      fc
        .tuple(odd, fc.constantFrom(...own), odd, fc.boolean())
        .map(([before, own, after, up]) => before + (up ? own.toUpperCase() : own) + after),
      fc.constantFrom(...own).map((own) => own.replaceAll('_', '.')),
      fc.string({ maxLength: 12 }),
    )
    /** As the most forgiving server reads a name: no case, no brackets, `_` for what is odd. */
    const asRead = (name: string) =>
      name
        .toLowerCase()
        .replace(/\[.*|\0.*/s, '')
        .trim()
        .replace(/[ .]/g, '_')
    let begun = 0
    await fc.assert(
      fc.asyncProperty(
        fc.dictionary(name, fc.string({ maxLength: 12 }), { maxKeys: 4 }),
        async (params) => {
          // Of those under way, the oldest make room.
          await world.browser.pass(1)
          const begin = login.begin({ returnTo: app, params }).catch(({ code }) => code as string)
          const answer = await begin
          if (typeof answer === 'string') return void expect(answer).toBe('invalid_input')
          begun++
          const left = new URL(locationOf(await login.leave(visit(answer.url), 'login')))
          expect(left.origin + left.pathname).toBe(`${server.issuer}/authorize`)
          const sent = [...left.searchParams].map(([name, value]) => [asRead(name), value] as const)
          const valuesOf = (name: string) =>
            sent.filter(([each]) => each === name).map(([, value]) => value)
          const fixed = {
            response_type: 'code',
            client_id: config.clientId,
            redirect_uri: `${app}tokenward/callback.html`,
            scope: 'openid email',
            code_challenge_method: 'S256',
            audience: 'a',
          }
          for (const name of own) {
            if (name in fixed) expect(valuesOf(name)).toEqual([fixed[name as 'scope']])
            else if (['state', 'nonce', 'code_challenge'].includes(name)) {
              expect(valuesOf(name)).toEqual([expect.stringMatching(/^[\w-]{43}$/)])
            } else expect(valuesOf(name)).toEqual([])
          }
          const names = [...left.searchParams.keys()]
          expect(names.length - new Set(names).size).toBe(0)
        },
      ),
      { numRuns: 300 },
    )
    expect(begun).toBeGreaterThan(20)
  })

  test('leaves for the server with the parameters of the page', async () => {
    const { leave, server } = createWorld()
    const { response, url } = await leave({ params: { prompt: 'login', login_hint: 'ada' } })
    expect(response.status).toBe(303)
    expect(url.startsWith(`${server.issuer}/authorize?`)).toBe(true)
    const { searchParams } = new URL(url)
    expect(searchParams.get('login_hint')).toBe('ada')
    expect(searchParams.get('prompt')).toBe('login')
  })

  test('leaves once: the second visit lands in the app (AR-08)', async () => {
    const { login, visit, locationOf, leave } = createWorld()
    const { ticket } = await leave()
    const again = await login.leave(visit(`${app}tokenward/login.html?ticket=${ticket}`), 'login')
    expect(locationOf(again)).toBe(`${app}#`)
  })

  test.each(['', '?ticket=', '?ticket=made-up', '?state=x'])(
    'does not leave without a ticket: %j (AR-08)',
    async (query) => {
      const { login, visit, locationOf, server } = createWorld()
      for (const page of ['login', 'silent'] as const) {
        const frame = page === 'silent' ? { destination: 'iframe' as const } : {}
        const from = visit(`${app}tokenward/${page}.html${query}`, frame)
        const response = await login.leave(from, page)
        const back = page === 'login' ? `${app}#` : `${app}tokenward/done.html#`
        expect(locationOf(response)).toBe(back)
      }
      expect(server.requests).toEqual([])
    },
  )

  test('that finds no server lands back in the app, which is told', async () => {
    const { login, transactions, visit, createWorker, config, platform } = createWorld()
    const fetch = async () => new Response('', { status: 503 })
    const { authorizationServer, session } = createWorker({ fetch })
    const offline = createSignIn({
      config,
      server: authorizationServer,
      transactions,
      session,
      platform,
    })
    const { url } = await login.begin({ returnTo: `${app}here#x` })
    const response = await offline.leave(visit(url), 'login')
    expect(response.headers.get('location')).toBe(`${app}here#x`)
    expect(await transactions.takeForPage('page-1')).toMatchObject({
      error: { code: 'metadata_unreachable' },
    })
  })

  test('comes back signed in, to where it began (CB-02)', async () => {
    const { signInAs, stored, events, server, browser } = createWorld()
    const { response, location } = await signInAs('alice')
    expect(response.status).toBe(303)
    expect(location).toBe(`${app}here#`)
    expect(await stored()).toMatchObject({
      status: 'active',
      subject: 'alice',
      claims: { sub: 'alice' },
      since: browser.now(),
      refreshToken: server.refreshToken(),
      protocolEndpoints: expect.arrayContaining([`${server.issuer}/token`]),
    })
    expect(events).toMatchObject([{ type: 'signed-in', session: { state: 'fresh' } }])
  })

  test.each([
    [`${app}here`, `${app}here#`],
    [`${app}#/route?x=1`, `${app}#/route?x=1`],
    [`${app}#`, `${app}#`],
    [`${app}?q=1`, `${app}?q=1#`],
  ])(
    'to %s answers with %s, so that no fragment is inherited (CB-02)',
    async (returnTo, location) => {
      const { signInAs } = createWorld()
      expect((await signInAs('alice', { returnTo })).location).toBe(location)
    },
  )

  test('answers without a body, not to be kept, and with no referrer (CB-16)', async () => {
    const { leave, arrive, server } = createWorld()
    const { response, url } = await leave()
    const back = server.authorize(url)
    back.searchParams.set('error_description', '<script>alert(1)</script>')
    for (const each of [response, await arrive(back), emptyPage()]) {
      expect(each.headers.get('cache-control')).toBe('no-store')
      expect(each.headers.get('referrer-policy')).toBe('no-referrer')
      expect(await each.text()).not.toContain('alert')
    }
    expect(emptyPage().headers.get('content-security-policy')).toBe("default-src 'none'")
  })

  test('survives a restart of the worker at every step (AR-07)', async () => {
    const { start, server, visit, locationOf, stored } = createWorld()
    const { url } = await start().login.begin({ returnTo: `${app}here` })
    const left = await start().login.leave(visit(url), 'login')
    const arrived = await start().login.arrive(visit(server.authorize(locationOf(left))))
    expect(locationOf(arrived)).toBe(`${app}here#`)
    expect(await stored()).toMatchObject({ status: 'active', subject: 'alice' })
  })

  test('leaves no code, verifier, state or nonce behind in the database (AR-12)', async () => {
    const { signInAs, store, server, stored } = createWorld()
    await signInAs('alice')
    const { accessToken, refreshToken, idToken } = await stored()
    const database = JSON.stringify(await readDatabase(store.name))
    const kept = [accessToken, refreshToken, idToken]
    for (const secret of server.secrets.filter((each) => each && !kept.includes(each))) {
      expect(database).not.toContain(secret)
    }
  })

  test('disturbs no other that is under way in another tab (AR-04)', async () => {
    const { leave, arrive, server, events } = createWorld()
    const [first, second] = [await leave(), await leave({ returnTo: `${app}there` })]
    const landed = [
      await arrive(server.authorize(second.url)),
      await arrive(server.authorize(first.url)),
    ]
    expect(landed.map((each) => each.headers.get('location'))).toEqual([
      `${app}there#`,
      `${app}here#`,
    ])
    // One user, none signed out by it.
    expect(events.map(({ type }) => type)).toEqual(['signed-in', 'signed-in'])
    expect(server.revoked).toEqual([])
  })
})

describe('a sign-in over a session that is there', () => {
  test('of the same user replaces it, and revokes nothing (SE-08)', async () => {
    const { signInAs, stored, events, server } = createWorld()
    await signInAs('alice')
    const before = await stored()
    await signInAs('alice')
    const after = await stored()
    expect(after.session).not.toBe(before.session)
    expect(after.refreshToken).toBe(server.refreshToken())
    expect(events.map(({ type }) => type)).toEqual(['signed-in', 'signed-in'])
    await settle()
    expect(server.revoked).toEqual([])
  })

  test('of another user ends it first, and revokes its refresh token (SE-08)', async () => {
    const { signInAs, stored, events, server } = createWorld({ server: { claims: { name: 'x' } } })
    await signInAs('alice')
    const before = await stored()
    server.options.claims = {}
    await signInAs('bob')
    expect(await stored()).toMatchObject({ subject: 'bob', claims: { sub: 'bob' } })
    expect((await stored()).claims).not.toHaveProperty('name')
    expect(events.slice(1)).toMatchObject([
      { type: 'signed-out', reason: 'user_changed' },
      { type: 'signed-in', session: { claims: { sub: 'bob' } } },
    ])
    expect(server.revoked).toEqual([before.refreshToken])
  })

  test('of another user does not keep the refresh token of the first one', async () => {
    const { signInAs, stored, server } = createWorld()
    await signInAs('alice')
    server.options.tokens = { refresh_token: undefined }
    await signInAs('bob')
    expect((await stored()).refreshToken).toBeUndefined()
  })

  test('starts anew, whatever had gone wrong before', async () => {
    const { signInAs, stored, session } = createWorld()
    await signInAs('alice')
    const { session: id } = await stored()
    const trouble = { refreshSentAt: 1, retry: { failures: 9, notBefore: 1 }, loginRequired: true }
    await session.changeOwn(id, (current) => ({ ...current, ...trouble }) as ActiveRecord)
    await signInAs('alice')
    const record = await stored()
    for (const name of Object.keys(trouble)) expect(record[name as 'retry']).toBeUndefined()
  })
})

describe('that a second user has signed in', () => {
  const world = () => {
    const made = createWorld()
    const changed = async () => (await made.stored()).usersChanged
    return { ...made, changed }
  }

  test('is written down with the record of the second one (IN-16)', async () => {
    const { signInAs, changed } = world()
    await signInAs('alice')
    expect(await changed()).toBeUndefined()
    await signInAs('alice')
    expect(await changed()).toBeUndefined()
    await signInAs('bob')
    expect(await changed()).toBe(true)
    // Her answers are still in the browser's cache, and now his are, too.
    await signInAs('alice')
    expect(await changed()).toBe(true)
  })

  test('is known after a sign-out, without knowing who it was (IN-16, SE-08)', async () => {
    const { signInAs, changed, session, store } = world()
    await signInAs('alice')
    await session.end('logout')
    expect(JSON.stringify(await readDatabase(store.name))).not.toContain('alice')
    await signInAs('alice')
    expect(await changed()).toBeUndefined()
    await session.end('logout')
    await signInAs('bob')
    expect(await changed()).toBe(true)
    await session.end('logout')
    expect(await store.read()).toMatchObject({ status: 'ended', usersChanged: true })
    await signInAs('bob')
    expect(await changed()).toBe(true)
  })

  test('is seen where the server knows another user, and she signs in (IN-16, SI-07)', async () => {
    const { signInAs, changed, stored } = world()
    await signInAs('alice')
    const { session } = await stored()
    await signInAs('bob', { kind: 'silent', session })
    const { generation } = await stored()
    await signInAs('bob', { kind: 'check', generation })
    expect(await changed()).toBe(true)
  })

  test('stays written down when a token is renewed (IN-16)', async () => {
    const { signInAs, changed, stored, refresh } = world()
    await signInAs('alice')
    await signInAs('bob')
    const { accessToken } = await stored()
    expect(await refresh(await stored())).toMatchObject({ kind: 'renewed' })
    expect((await stored()).accessToken).not.toBe(accessToken)
    expect(await changed()).toBe(true)
  })

  test('is assumed where nobody can tell: no subject, or a record from before (IN-16)', async () => {
    const { signInAs, changed, session, stored } = world()
    await signInAs('alice')
    await session.changeOwn((await stored()).session, (record) => ({ ...record, user: 'old' }))
    await signInAs('alice')
    expect(await changed()).toBe(true)
    const anonymous = createWorld({ options: { scope: 'orders' } })
    anonymous.server.options.tokens = { id_token: undefined }
    await anonymous.signInAs()
    expect((await anonymous.stored()).usersChanged).toBeUndefined()
    await anonymous.signInAs()
    expect((await anonymous.stored()).usersChanged).toBe(true)
  })
})

describe('a silent login', () => {
  const ready = async () => {
    const world = createWorld()
    await world.signInAs('alice')
    const before = await world.stored()
    world.events.length = 0
    return { ...world, before, silent: { kind: 'silent', session: before.session } as const }
  }

  test('asks with prompt=none, and a hint of whom it is for (SI-08)', async () => {
    const { leave, silent, before } = await ready()
    const { searchParams } = new URL((await leave(silent)).url)
    expect(searchParams.getAll('prompt')).toEqual(['none'])
    expect(searchParams.get('id_token_hint')).toBe(before.idToken)
  })

  test('goes without a hint that is long, was refused, or has just failed', async () => {
    const { leave, silent, before, session } = await ready()
    const hint = async (more: Partial<BegunTransaction> = {}) =>
      new URL((await leave({ ...silent, ...more })).url).searchParams.get('id_token_hint')
    const change = (more: Partial<ActiveRecord>) =>
      session.changeOwn(before.session, (current) => ({ ...current, ...more }))
    expect(await hint({ hintless: true })).toBeNull()
    await change({ idToken: 'x'.repeat(4_000) })
    expect(await hint()).toHaveLength(4_000)
    await change({ idToken: 'x'.repeat(4_001) })
    expect(await hint()).toBeNull()
    await change({ idToken: before.idToken, hintRefused: true })
    expect(await hint()).toBeNull()
  })

  test('brings a new hint, which the server has not refused yet', async () => {
    const { signInAs, silent, before, stored, session } = await ready()
    await session.changeOwn(before.session, (current) => ({ ...current, hintRefused: true }))
    await signInAs('alice', silent)
    expect((await stored()).hintRefused).toBeUndefined()
  })

  test('asks with prompt=none also where the app asks for another prompt (SI-08)', async () => {
    const options: Partial<TokenWorkerOptions> = { authorizationParams: { prompt: 'consent' } }
    const { leave } = createWorld({ options })
    const { searchParams } = new URL((await leave({ kind: 'check' })).url)
    expect(searchParams.getAll('prompt')).toEqual(['none'])
    expect(searchParams.has('id_token_hint')).toBe(false)
  })

  test('asks for what shaped the sign-in, so that the next token is for the same organization', async () => {
    const { signInAs, leave, arrive, server, stored } = createWorld()
    const shape = { organization: 'org_abc', connection: 'github', acr_values: 'urn:mfa' }
    const once = {
      ...{
        prompt: 'login',
        max_age: '0',
        claims: '{}',
        login_hint: 'alice',
        screen_hint: 'signup',
      },
      ...{ invitation: 'once', sessionToken: 'once', kc_action: 'UPDATE_PASSWORD' },
    }
    server.options.claims = { auth_time: Math.floor(Date.now() / 1000) }
    await signInAs('alice', { params: { ...shape, ...once } })
    const { session, params } = await stored()
    expect(params).toEqual(shape)
    for (let round = 0; round < 2; round++) {
      const { url } = await leave({ kind: 'silent', session, params })
      expect(Object.fromEntries(new URL(url).searchParams)).toMatchObject({
        ...shape,
        prompt: 'none',
      })
      for (const name of Object.keys(once).filter((each) => each !== 'prompt')) {
        expect(new URL(url).searchParams.has(name), name).toBe(false)
      }
      await arrive(server.authorize(url), { destination: 'iframe' })
      expect((await stored()).params).toEqual(shape)
    }
  })

  test('asks for nothing of an earlier sign-in after another one', async () => {
    const { signInAs, stored } = createWorld()
    await signInAs('alice', { params: { organization: 'org_abc' } })
    await signInAs('alice')
    expect((await stored()).params).toEqual({})
  })

  test('sets nothing of the protocol, whatever a script writes into the record (AR-13)', async () => {
    const { leave, silent } = await ready()
    const { url } = await leave({ ...silent, params: { redirect_uri: 'https://evil.example/' } })
    expect(url).toBe(`${app}here#`)
  })

  test('renews the session, and ends in an empty page (SI-10)', async () => {
    const { signInAs, silent, before, stored, events, transactions } = await ready()
    const { location, ticket } = await signInAs('alice', silent)
    expect(location).toBe(`${app}tokenward/done.html#`)
    expect(await transactions.outcomeOf(ticket)).toBe('signed-in')
    const after = await stored()
    expect(after).toMatchObject({ session: before.session, since: before.since })
    expect(after.accessToken).not.toBe(before.accessToken)
    expect(after.refreshToken).not.toBe(before.refreshToken)
    expect(after.silentLoginWorks).toBe(true)
    expect(events).toMatchObject([{ type: 'renewed' }])
  })

  test('without a refresh token keeps the old one, and what is unknown of it (RF-07)', async () => {
    const { signInAs, silent, before, stored, server, session } = await ready()
    await session.changeOwn(before.session, (current) => ({ ...current, refreshSentAt: 7 }))
    server.options.tokens = { refresh_token: undefined }
    await signInAs('alice', silent)
    expect(await stored()).toMatchObject({ refreshToken: before.refreshToken, refreshSentAt: 7 })
  })

  test('that finds another user ends the session, and merges nothing (SI-07)', async () => {
    const { signInAs, silent, store, events, transactions } = await ready()
    const { ticket } = await signInAs('mallory', silent)
    expect(await store.read()).toMatchObject({ status: 'ended', reason: 'user_changed' })
    expect(events).toEqual([{ type: 'signed-out', reason: 'user_changed' }])
    expect(await transactions.outcomeOf(ticket)).toMatchObject({ error: { code: 'user_changed' } })
  })

  test('that comes back after a sign-out is not even redeemed (SE-01, AR-12)', async () => {
    const { leave, arrive, silent, server, session, store, events } = await ready()
    const { url } = await leave(silent)
    await session.end('logout')
    const before = server.tokenRequests().length
    await arrive(server.authorize(url), { destination: 'iframe' })
    expect(await store.read()).toMatchObject({ status: 'ended', reason: 'logout' })
    expect(events.map(({ type }) => type)).toEqual(['signed-out'])
    expect(server.tokenRequests()).toHaveLength(before)
  })

  test('that was overtaken by the end of the session does not sign in again (SE-07)', async () => {
    const { leave, arrive, silent, server, session, store, events } = await ready()
    const { url } = await leave(silent)
    await session.end('ended')
    await arrive(server.authorize(url), { destination: 'iframe' })
    expect(await store.read()).toMatchObject({ status: 'ended', reason: 'ended' })
    expect(events.map(({ type }) => type)).toEqual(['signed-out'])
    // What it brought is nobody's (RF-11).
    expect(server.revoked).toEqual([server.refreshToken()])
  })

  test('that was overtaken by a new sign-in leaves that one alone (SE-07)', async () => {
    const { leave, arrive, silent, server, signInAs, stored, transactions } = await ready()
    const { url, ticket } = await leave(silent)
    await signInAs('alice')
    const newer = await stored()
    await arrive(server.authorize(url), { destination: 'iframe' })
    expect(await stored()).toEqual(newer)
    expect(await transactions.outcomeOf(ticket)).toMatchObject({ error: { code: 'user_changed' } })
  })

  test('that checks finds a user where nobody was signed in', async () => {
    const { signInAs, stored, events } = createWorld()
    await signInAs('alice', { kind: 'check' })
    expect(await stored()).toMatchObject({ subject: 'alice', silentLoginWorks: true })
    expect(events).toMatchObject([{ type: 'signed-in' }])
  })

  test('that checks does not overwrite a sign-in that was faster', async () => {
    const { leave, arrive, server, signInAs, stored } = createWorld()
    const { url } = await leave({ kind: 'check' })
    await signInAs('bob')
    const faster = await stored()
    await arrive(server.authorize(url, 'alice'), { destination: 'iframe' })
    expect(await stored()).toEqual(faster)
  })

  test('that is refused ends in an empty page, and says why to the one who waits (SI-05)', async () => {
    const { leave, arrive, silent, transactions, stored, before, events, server } = await ready()
    await transactions.takeForPage('page-1')
    const { url, ticket } = await leave(silent)
    const back = server.authorize(url)
    back.searchParams.delete('code')
    back.searchParams.set('error', 'login_required')
    const response = await arrive(back, { destination: 'iframe' })
    expect(response.headers.get('location')).toBe(`${app}tokenward/done.html#`)
    expect(await transactions.outcomeOf(ticket)).toMatchObject({
      error: { code: 'login_required' },
    })
    expect(await stored()).toEqual(before)
    expect(events).toEqual([])
    expect(await transactions.takeForPage('page-1')).toBeUndefined()
  })
})

describe('an answer at the callback', () => {
  const bad = async (change: (url: URL) => void, request?: Partial<Request>) => {
    const world = createWorld()
    await world.signInAs('alice')
    const before = await world.stored()
    world.server.requests.length = 0
    world.events.length = 0
    const back = world.server.authorize((await world.leave()).url)
    change(back)
    const response = await world.arrive(back, request)
    expect(response.status).toBe(303)
    // Whatever came in, the session that is there is not touched.
    expect(await world.stored()).toEqual(before)
    expect(world.server.tokenRequests()).toEqual([])
    expect(world.events).toEqual([])
    const told = await world.transactions.takeForPage('page-1')
    const { code, message } = (told as { error: TokenErrorData }).error
    return { location: world.locationOf(response), code, message }
  }

  test.each<[string, (url: URL) => void]>([
    ['two codes', (url) => url.searchParams.append('code', 'x')],
    ['two iss', (url) => url.searchParams.append('iss', 'https://login.example')],
    ['code and error', (url) => url.searchParams.set('error', 'access_denied')],
    [
      'two errors',
      ({ searchParams }) => {
        searchParams.delete('code')
        searchParams.append('error', 'a')
        searchParams.append('error', 'b')
      },
    ],
    ['no code and no error', (url) => url.searchParams.delete('code')],
    ['an empty code', (url) => url.searchParams.set('code', '')],
    ['a code of more than 4 KiB', (url) => url.searchParams.set('code', 'x'.repeat(4097))],
    ['an access token (CB-03)', (url) => url.searchParams.set('access_token', 'x')],
    ['an ID token (CB-03)', (url) => url.searchParams.set('id_token', 'x')],
    ['another iss (CB-09)', (url) => url.searchParams.set('iss', 'https://evil.example')],
    ['no iss (CB-09)', (url) => url.searchParams.delete('iss')],
  ])('with %s fails the sign-in, and no code is sent (CB-08)', async (_title, change) => {
    expect(await bad(change)).toMatchObject({ location: `${app}here#`, code: 'invalid_callback' })
  })

  test.each<[string, (url: URL) => void, Partial<Request>?]>([
    ['without state', (url) => url.searchParams.delete('state')],
    ['with an empty state', (url) => url.searchParams.set('state', '')],
    ['with a made-up state', (url) => url.searchParams.set('state', 'x')],
    [
      'with a state that is a little off',
      (url) => url.searchParams.set('state', `${url.searchParams.get('state')}x`),
    ],
    [
      'in the fragment (CB-03)',
      (url) => {
        url.hash = url.search.slice(1)
        url.search = ''
      },
    ],
    ['by POST (CB-04)', () => {}, { method: 'POST' }],
    [
      'with nothing at all',
      (url) => {
        url.search = ''
      },
    ],
  ])(
    '%s is unsolicited: clean redirect, and no code is sent (CB-07)',
    async (_title, change, request) => {
      expect(await bad(change, request)).toMatchObject({
        location: `${app}#`,
        code: 'unsolicited_callback',
      })
    },
  )

  test.each([
    ['access_denied', /access_denied/],
    ['a_code_of_its_own', /a_code_of_its_own/],
    ['Call 0800 now', /^((?!0800).)*$/],
    ['x'.repeat(41), /^((?!xx).)*$/],
    ['<b>', /^((?!<b>).)*$/],
  ])(
    'that is the error %s without state is unsolicited, with its code if it is one',
    async (error, message) => {
      const told = await bad((url) => {
        url.search = String(new URLSearchParams({ error, error_description: 'So they say' }))
      })
      expect(told).toMatchObject({ location: `${app}#`, code: 'unsolicited_callback' })
      expect(told.message).toMatch(message)
      expect(told.message).not.toContain('So they say')
    },
  )

  test('that is an error of the server is told with its code, to the tab that lands', async () => {
    const { location, code, message } = await bad(({ searchParams }) => {
      searchParams.delete('code')
      searchParams.set('error', 'access_denied')
      searchParams.set('error_description', '<b>no</b>')
    })
    expect({ location, code }).toEqual({ location: `${app}here#`, code: 'access_denied' })
    expect(message).toContain('access_denied')
  })

  test('of a sign-in that began more than an hour ago is unsolicited (AR-12)', async () => {
    const { leave, arrive, browser, server, transactions, locationOf } = createWorld()
    const back = server.authorize((await leave()).url)
    browser.setClock(3_600_001)
    expect(locationOf(await arrive(back))).toBe(`${app}#`)
    expect(await transactions.takeForPage('page-1')).toMatchObject({
      error: { code: 'unsolicited_callback' },
    })
  })

  test('that a logout waits for is unsolicited here', async () => {
    const { transactions, arrive, server, locationOf } = createWorld()
    const ticket = await transactions.begin({ kind: 'logout', returnTo: `${app}bye` })
    const { state } = (await transactions.depart(ticket, ['logout']))!
    const response = await arrive(`${app}tokenward/callback.html?code=x&state=${state}`)
    expect(locationOf(response)).toBe(`${app}#`)
    expect(server.requests).toEqual([])
  })

  test('with a ticket for a state fails: nothing has been sent that it could answer', async () => {
    const { transactions, arrive, server } = createWorld()
    const ticket = await transactions.begin({ kind: 'login', returnTo: app })
    await arrive(`${app}tokenward/callback.html?code=x&state=${ticket}`)
    expect(server.requests).toEqual([])
    expect(await transactions.takeForPage('page-1')).toBeDefined()
  })

  test('whose code is refused fails the sign-in with the reason', async () => {
    const { leave, arrive, server, transactions, store } = createWorld()
    const back = server.authorize((await leave()).url)
    server.answers.push(() => json({ error: 'invalid_grant' }, 400))
    expect((await arrive(back)).headers.get('location')).toBe(`${app}here#`)
    expect(await transactions.takeForPage('page-1')).toMatchObject({
      error: { code: 'invalid_grant' },
    })
    expect(await store.read()).toBeUndefined()
  })

  test('that cannot be stored fails the sign-in, and the app still opens (CB-11)', async () => {
    const {
      leave,
      arrive,
      server,
      session,
      config,
      authorizationServer,
      transactions,
      platform,
      visit,
    } = createWorld()
    const back = server.authorize((await leave()).url)
    const broken = {
      ...session,
      change: async () => {
        throw new Error('The disk is full.')
      },
    }
    const login = createSignIn({
      config,
      server: authorizationServer,
      transactions,
      session: broken,
      platform,
    })
    expect((await login.arrive(visit(back))).headers.get('location')).toBe(`${app}here#`)
    expect(await transactions.takeForPage('page-1')).toMatchObject({
      error: { code: 'login_interrupted' },
    })
    expect(arrive).toBeDefined()
  })
})

/** The token endpoint never answers; resolves once it has been asked. */
const neverAnswer = ({ answers }: FakeAuthorizationServer): Promise<void> =>
  new Promise((resolve) => {
    answers.push(() => {
      resolve()
      return new Promise(() => {})
    })
  })

describe('an answer that arrives a second time', () => {
  test('lands in the app, silently, while the session lives (CB-06)', async () => {
    const { leave, arrive, server, transactions, locationOf, start, visit } = createWorld()
    const back = server.authorize((await leave()).url)
    await arrive(back)
    expect(await transactions.takeForPage('page-1')).toBe('signed-in')
    for (const again of [arrive(back), start().login.arrive(visit(back))]) {
      expect(locationOf(await again)).toBe(`${app}here#`)
      expect(await transactions.takeForPage('page-1')).toBeUndefined()
    }
    expect(server.tokenRequests()).toHaveLength(1)
  })

  test('says so where the session is over', async () => {
    const { leave, arrive, server, transactions, session } = createWorld()
    const back = server.authorize((await leave()).url)
    await arrive(back)
    await session.end('ended')
    await arrive(back)
    expect(await transactions.takeForPage('page-1')).toMatchObject({
      error: { code: 'login_interrupted' },
    })
    expect(server.tokenRequests()).toHaveLength(1)
  })

  test('after a worker was stopped in the exchange says so, and sends no code again (CB-15)', async () => {
    const { leave, server, start, visit, locationOf, transactions } = createWorld()
    const back = server.authorize((await leave()).url)
    const asked = neverAnswer(server)
    void start().login.arrive(visit(back))
    await asked
    expect(locationOf(await start().login.arrive(visit(back)))).toBe(`${app}here#`)
    expect(await transactions.takeForPage('page-1')).toMatchObject({
      error: { code: 'login_interrupted' },
    })
    expect(server.tokenRequests()).toHaveLength(1)
  })

  describe('or never, as the worker was stopped in the exchange (CB-15)', () => {
    const stopped = { landing: { code: 'login_interrupted' } }
    /** A world whose first worker never gets an answer of the token endpoint. */
    const stopAtToken = async (more: Partial<BegunTransaction> = {}) => {
      const world = createWorld()
      const back = world.server.authorize((await world.leave(more)).url)
      const asked = neverAnswer(world.server)
      const first = world.start()
      void first.login.arrive(world.visit(back, more.kind && { destination: 'iframe' }))
      await asked
      expect(world.server.tokenRequests()).toHaveLength(1)
      return { ...world, back, first }
    }

    test('the next page to open is told, once', async () => {
      const { start, visit, back, locationOf, server } = await stopAtToken()
      expect(await start().login.landing('page-2')).toMatchObject(stopped)
      expect(await start().login.landing('page-2')).toEqual({})
      expect(await start().login.landing('page-3')).toEqual({})
      // A reload of the callback page says so too, and sends no code again.
      expect(locationOf(await start().login.arrive(visit(back)))).toBe(`${app}here#`)
      expect(await start().login.landing('page-1')).toMatchObject({ landed: true, ...stopped })
      expect(server.tokenRequests()).toHaveLength(1)
    })

    test('it is not told while the worker is still busy with it', async () => {
      const { first } = await stopAtToken()
      expect(await first.login.landing('page-2')).toEqual({})
    })

    test('it is not told by a worker of another scope, which cannot know', async () => {
      const { start, config, first, platform } = await stopAtToken()
      const { store, session, authorizationServer } = start()
      const root = `${app}other/`
      const transactions = createTransactions({ config: { root }, store, platform })
      const other = { ...config, root }
      const login = createSignIn({
        config: other,
        server: authorizationServer,
        transactions,
        session,
        platform,
      })
      expect(await login.landing('page-2')).toEqual({})
      expect(await first.login.landing('page-3')).toEqual({})
      expect(await start().login.landing('page-4')).toMatchObject(stopped)
    })

    test('it is not told an hour later', async () => {
      const { start, browser } = await stopAtToken()
      browser.setClock(3_600_001)
      expect(await start().login.landing('page-2')).toEqual({})
    })

    test('nothing is told of a hidden frame: who waits for it knows', async () => {
      const { start } = await stopAtToken({ kind: 'check' })
      expect(await start().login.landing('page-2')).toEqual({})
    })

    test('it is told beside a session from before, which goes on', async () => {
      const { browser, server, signInAs, leave, start, visit, stored } = createWorld()
      await signInAs('alice')
      await start().login.landing('page-1')
      const before = await stored()
      await browser.pass(1_000)
      const back = server.authorize((await leave()).url)
      const asked = neverAnswer(server)
      void start().login.arrive(visit(back))
      await asked
      expect(await start().login.landing('page-2')).toMatchObject(stopped)
      expect(await stored()).toEqual(before)
    })

    test('nothing is told where it had signed in by then, also not after signing out', async () => {
      const { server, leave, start, visit, locationOf, config, stored } = createWorld()
      const worker = start()
      const { authorizationServer, transactions, session, platform } = worker
      const never = { ...transactions, finish: () => new Promise<void>(() => {}) }
      const login = createSignIn({
        config,
        server: authorizationServer,
        transactions: never,
        session,
        platform,
      })
      const back = server.authorize((await leave()).url)
      void login.arrive(visit(back))
      await settle()
      expect(await stored()).toMatchObject({ status: 'active' })
      expect(locationOf(await start().login.arrive(visit(back)))).toBe(`${app}here#`)
      expect(await start().login.landing('page-1')).toEqual({})
      await session.end('logout')
      expect(await start().login.landing('page-2')).toEqual({})
    })
  })

  test('at the same time in two workers sends the code once (CB-06)', async () => {
    const { leave, server, start, visit } = createWorld()
    const back = server.authorize((await leave()).url)
    const workers = [start(), start(), start()]
    await Promise.all(workers.map(({ login }) => login.arrive(visit(back))))
    expect(server.tokenRequests()).toHaveLength(1)
  })
})

test('a failure is told to the page that lands, and to no other', async () => {
  const { arrive, transactions } = createWorld()
  await arrive(`${app}tokenward/callback.html?code=x&state=y`, {}, 'page-7')
  expect(await transactions.takeForPage('page-1')).toBeUndefined()
  expect(await transactions.takeForPage('page-7')).toMatchObject({
    error: { code: 'unsolicited_callback' },
  })
})

test.each([
  ['here', 'alice'],
  ['in another worker', 'alice'],
  ['here', 'bob'],
])(
  'a sign-out %s, while the code of %s is redeemed, is not undone (SE-01, SE-07)',
  async (...by) => {
    const [where, user] = by
    const world = createWorld()
    const { login, visit, locationOf, server, signInAs, start, store, transactions, session } =
      world
    await signInAs('alice')
    const { url } = await login.begin({ returnTo: app })
    const back = server.authorize(locationOf(await login.leave(visit(url), 'login')), user)
    const revoked = server.revoked.length
    let answer = () => {}
    const held = new Promise<void>((resolve) => {
      answer = resolve
    })
    server.answers.push(async (request) => {
      await held
      return server.grant(request)
    })
    const worker = start()
    const arrived = worker.login.arrive(visit(back))
    await settle()
    await (where === 'here' ? worker.session : session).end('logout')
    answer()
    await arrived
    expect(await store.read()).toMatchObject({ status: 'ended', reason: 'logout' })
    expect(worker.events.map(({ type }) => type)).not.toContain('signed-in')
    expect(server.revoked).toHaveLength(revoked + 1)
    expect(await transactions.takeForPage('page-1')).toMatchObject({
      error: { code: 'user_changed' },
    })
    // A sign-in that begins after that is another matter.
    const again = await login.begin({ returnTo: app })
    const next = server.authorize(locationOf(await login.leave(visit(again.url), 'login')), user)
    await start().login.arrive(visit(next))
    expect(await store.read()).toMatchObject({ status: 'active', subject: user })
  },
)

describe('a silent login whose answer is late', () => {
  test('does not undo a sign-out that came after it had begun', async () => {
    const { leave, arrive, server, session, store, signInAs } = createWorld()
    const { url } = await leave({ kind: 'check' })
    await signInAs('alice')
    await session.end('logout')
    const response = await arrive(server.authorize(url), { destination: 'iframe' })
    expect(response.status).toBe(303)
    expect(await store.read()).toMatchObject({ status: 'ended', reason: 'logout' })
  })

  test('changes nothing for somebody who has signed in meanwhile', async () => {
    const { leave, arrive, server, signInAs, stored } = createWorld()
    const { url } = await leave({ kind: 'check' })
    await signInAs('bob')
    const before = await stored()
    await arrive(server.authorize(url, 'alice'), { destination: 'iframe' })
    expect(await stored()).toEqual(before)
  })

  test('is as good as one in time where nothing has happened since', async () => {
    const { leave, arrive, server, stored, browser } = createWorld()
    const { url } = await leave({ kind: 'check' })
    await browser.pass(600_000)
    await arrive(server.authorize(url), { destination: 'iframe' })
    expect(await stored()).toMatchObject({ status: 'active', subject: 'alice' })
  })
})
