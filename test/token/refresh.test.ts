import { describe, expect, test } from 'vitest'
import type { ActiveRecord } from '../../sw/session/records.js'
import { createRefresh } from '../../sw/token/refresh.js'
import { json } from '../support/fake-authorization-server.js'
import { settle } from '../support/fake-platform.js'
import { createUnitWorld, type WorldOptions } from '../support/worker-parts.js'

const createWorld = async (options: WorldOptions = {}, record: Partial<ActiveRecord> = {}) => {
  const world = createUnitWorld(options)
  const worker = world.createWorker()
  const before = await world.signIn(record)
  await worker.authorizationServer.refresh('a first request, for the metadata')
  world.server.setGrant({ ...world.config, subject: 'alice', refreshToken: before.refreshToken })
  world.server.requests.length = 0
  const stored = async () => (await worker.store.read()) as ActiveRecord
  return { ...world, ...worker, before, stored }
}

const tokens = (more: object = {}) => ({
  access_token: 'new-access',
  token_type: 'Bearer',
  ...more,
})

describe('a refresh that succeeds', () => {
  test('stores both new tokens, and nothing is left of the attempt (RF-03)', async () => {
    const { browser, server, refresh, before, stored } = await createWorld()
    await browser.pass(1000)
    const outcome = await refresh(before)
    expect(outcome.kind).toBe('renewed')
    const record = await stored()
    expect(outcome).toHaveProperty('record', record)
    expect(record).toMatchObject({
      session: before.session,
      since: before.since,
      refreshToken: server.refreshToken(),
      accessTokenIssuedAt: browser.now(),
      accessTokenExpiresAt: browser.now() + 3_600_000,
    })
    expect(record.refreshToken).not.toBe(before.refreshToken)
    expect(record.accessToken).not.toBe(before.accessToken)
    expect(record.refreshSentAt).toBeUndefined()
  })

  test('keeps the refresh token where the server sends no new one (RF-03)', async () => {
    const { refresh, before, stored } = await createWorld({ server: { rotate: false } })
    await refresh(before)
    expect((await stored()).refreshToken).toBe(before.refreshToken)
  })

  test('has written down that it was sent, before it was sent (RF-05)', async () => {
    const { browser, server, refresh, before, stored } = await createWorld()
    const seen: ActiveRecord[] = []
    server.answers.push(async (request) => {
      seen.push(await stored())
      return server.grant(request)
    })
    await refresh(before)
    expect(seen).toMatchObject([
      { refreshToken: before.refreshToken, refreshSentAt: browser.now() },
    ])
  })

  test('has stored the new tokens before it judges the ID token (RF-12)', async () => {
    const { authorizationServer, platform, session, stored, before } = await createWorld()
    const seen: ActiveRecord[] = []
    const server = {
      ...authorizationServer,
      readIdToken: async () => {
        seen.push(await stored())
        return { kind: 'other-user' } as const
      },
    }
    await createRefresh({ server, session, platform })(before)
    expect(seen).toHaveLength(1)
    expect(seen[0]?.refreshToken).not.toBe(before.refreshToken)
  })

  test('takes over the granted scope, or keeps the old one where none is named (TK-11)', async () => {
    const { server, refresh, before, stored } = await createWorld()
    server.answers.push(() => json(tokens({ refresh_token: 'r1' })))
    await refresh(before)
    expect((await stored()).scope).toBe('openid')
    server.answers.push(() => json(tokens({ scope: 'read' })))
    await refresh(await stored())
    expect((await stored()).scope).toBe('read')
  })

  test('takes over new claims, and keeps those that are not mentioned (RF-09)', async () => {
    const { server, refresh, before, stored } = await createWorld(
      { server: { claims: { name: 'Ada' } } },
      { claims: { sub: 'alice', email: 'ada@example.com' } },
    )
    await refresh(before)
    const { claims, idToken } = await stored()
    expect(claims).toEqual({ sub: 'alice', name: 'Ada', email: 'ada@example.com' })
    expect(server.secrets).toContain(idToken)
  })

  test('ends the pause after failures, and asks for a sign-in anew next time', async () => {
    const more = { retry: { failures: 3, notBefore: 1 }, loginRequired: true } as const
    const { refresh, before, stored } = await createWorld({}, more)
    await refresh(before)
    expect(await stored()).toMatchObject({ retry: undefined, loginRequired: undefined })
  })

  test('keeps fields of the record that a newer version has written', async () => {
    const { refresh, before, store } = await createWorld({}, { later: 'kept' } as object)
    await refresh(before)
    expect(await store.read()).toHaveProperty('later', 'kept')
  })

  test('leaves no secret in the steps it notes (PV-01)', async () => {
    const { refresh, before, steps } = await createWorld()
    await refresh(before)
    expect(steps).toEqual(['refreshing', 'refreshed'])
  })
})

describe('the ID token of a refresh (RF-12)', () => {
  test('ends the session if it is for another user', async () => {
    const { refresh, before, store, events, server } = await createWorld()
    server.options.claims = { sub: 'mallory' }
    expect(await refresh(before)).toEqual({ kind: 'superseded' })
    expect(await store.read()).toMatchObject({ status: 'ended', reason: 'user_changed' })
    expect(events).toEqual([{ type: 'signed-out', reason: 'user_changed' }])
  })

  test('that cannot be used is a problem, and the new tokens are used', async () => {
    const { refresh, before, stored, events, server } = await createWorld()
    server.options.claims = { exp: 1 }
    expect((await refresh(before)).kind).toBe('renewed')
    expect(await stored()).toMatchObject({ claims: { sub: 'alice' }, status: 'active' })
    expect((await stored()).accessToken).not.toBe(before.accessToken)
    expect(events).toMatchObject([{ type: 'problem', error: { code: 'invalid_id_token' } }])
  })

  test.each([1, -1, 25, -25])('costs nothing on a clock that is %s h wrong', async (hours) => {
    const now = () => Date.now() + hours * 3_600_000
    const { refresh, before, events } = await createWorld({ server: { now } })
    expect((await refresh(before)).kind).toBe('renewed')
    expect(events).toEqual([])
  })
})

describe('a refresh that is refused', () => {
  test('by invalid_grant drops the refresh token and keeps the session (RF-08)', async () => {
    const { refresh, before, stored, server, steps } = await createWorld()
    server.answers.push(() => json({ error: 'invalid_grant' }, 400))
    expect(await refresh(before)).toMatchObject({
      kind: 'refused',
      error: { code: 'invalid_grant' },
    })
    const record = await stored()
    expect(record).toMatchObject({ status: 'active', accessToken: before.accessToken })
    expect(record.refreshToken).toBeUndefined()
    expect(record.refreshSentAt).toBeUndefined()
    expect(steps).toEqual(['refreshing', 'refresh-failed'])
  })

  test('never costs the token that somebody else has stored meanwhile (RF-08)', async () => {
    const { refresh, before, stored, server, session } = await createWorld()
    server.answers.push(async () => {
      await session.changeOwn(before.session, (current) => ({ ...current, refreshToken: 'winner' }))
      return json({ error: 'invalid_grant' }, 400)
    })
    expect(await refresh(before)).toEqual({ kind: 'superseded' })
    expect((await stored()).refreshToken).toBe('winner')
  })

  test('by a 401, or for want of the user, keeps the refresh token (RF-09)', async () => {
    const { refresh, before, stored, server } = await createWorld()
    for (const [status, error] of [
      [401, 'invalid_client'],
      [400, 'mfa_required'],
    ] as const) {
      server.answers.push(() => json({ error }, status))
      expect(await refresh(await stored())).toMatchObject({
        kind: 'refused',
        error: { code: error },
      })
      expect((await stored()).refreshToken).toBe(before.refreshToken)
      expect((await stored()).retry).toBeUndefined()
      expect((await stored()).refreshSentAt).toBeUndefined()
    }
  })

  test('as a wrong client says so to the pages, and pauses (RF-09)', async () => {
    const { refresh, before, stored, server, events } = await createWorld()
    server.answers.push(() => json({ error: 'unauthorized_client' }, 400))
    expect((await refresh(before)).kind).toBe('failed')
    expect(events).toMatchObject([{ type: 'problem', error: { code: 'unauthorized_client' } }])
    expect(await stored()).toMatchObject({
      refreshToken: before.refreshToken,
      retry: { failures: 1 },
    })
  })
})

describe('a refresh without a result', () => {
  const fails = async (
    answer: () => Response | Promise<Response>,
    more: Partial<ActiveRecord> = {},
  ) => {
    const world = await createWorld({}, more)
    world.server.answers.push(answer)
    const outcome = await world.refresh(world.before)
    return { ...world, outcome, record: await world.stored() }
  }
  const noAnswer = () => Promise.reject(new TypeError('Failed to fetch'))
  const down = () => new Response('', { status: 503 })

  test('keeps session and tokens (RF-06)', async () => {
    for (const answer of [noAnswer, down, () => json({}, 429), () => new Response('<html>')]) {
      const { outcome, record, before, events } = await fails(answer)
      expect(outcome.kind).toBe('failed')
      expect(record).toMatchObject({
        status: 'active',
        accessToken: before.accessToken,
        refreshToken: before.refreshToken,
      })
      expect(events).toEqual([])
    }
  })

  test('stays marked as sent where no answer came, and only there (RF-07)', async () => {
    const { record, browser } = await fails(noAnswer)
    expect(record.refreshSentAt).toBe(browser.now())
    expect((await fails(down)).record.refreshSentAt).toBeUndefined()
  })

  test('stays marked until an answer decides, for or against the token (RF-07)', async () => {
    const { server, refresh, record, stored } = await fails(noAnswer)
    server.answers.push(down)
    await refresh(record)
    expect((await stored()).refreshSentAt).toBe(record.refreshSentAt)
    server.answers.push(() => json({ error: 'invalid_grant' }, 400))
    await refresh(await stored())
    expect((await stored()).refreshSentAt).toBeUndefined()
  })

  test('is answered once: what the disk would not take is kept for the next try', async () => {
    const { server, authorizationServer, before, session, stored } = await createWorld()
    let broken = true
    const changeOwn: typeof session.changeOwn = (id, next) =>
      session.changeOwn(id, (current) => {
        const wanted = next(current)
        const isRotated = wanted?.status === 'active' && wanted.refreshToken !== before.refreshToken
        if (isRotated && broken) throw new Error('quota')
        return wanted
      })
    const refresh = createRefresh({
      server: authorizationServer,
      session: { ...session, changeOwn },
      platform: { now: () => 0 },
    })
    await expect(refresh(before)).rejects.toMatchObject({ code: 'storage_failed' })
    broken = false
    expect((await refresh(await stored())).kind).toBe('renewed')
    expect((await stored()).refreshToken).not.toBe(before.refreshToken)
    expect(server.requests.filter(({ params }) => params.has('refresh_token'))).toHaveLength(1)
  })

  test('doubles the pause each time, up to a minute, with full jitter (RF-06)', async () => {
    const { browser, server, refresh, stored } = await createWorld()
    const pauses: number[] = []
    for (let failures = 1; failures <= 8; failures++) {
      server.answers.push(down)
      await refresh(await stored())
      const { retry } = await stored()
      expect(retry?.failures).toBe(failures)
      pauses.push(retry!.notBefore - browser.now())
    }
    expect(pauses).toEqual([2, 4, 8, 16, 32, 60, 60, 60].map((seconds) => seconds * 1000))
    browser.random = 0.25
    server.answers.push(down)
    await refresh(await stored())
    expect((await stored()).retry!.notBefore - browser.now()).toBe(15_000)
  })

  test.each([
    ['120', 122_000],
    ['1', 3_000],
    ['86400', 302_000],
  ])('waits as long as the server asks, within reason: %s', async (value, ms) => {
    const { record, browser } = await fails(() => json({}, 503, { 'retry-after': value }))
    expect(record.retry!.notBefore - browser.now()).toBe(ms)
  })

  test('makes no pause offline, so that nothing is late when the network is back (OF-05)', async () => {
    const { browser, server, refresh, before, stored } = await createWorld()
    browser.online = false
    server.answers.push(noAnswer)
    expect(await refresh(before)).toMatchObject({ kind: 'failed', error: { code: 'offline' } })
    expect((await stored()).retry).toBeUndefined()
  })
})

describe('a refresh that a server has answered', () => {
  test('is followed by the pause that it asks for, even if the network goes just then (RF-06)', async () => {
    const { browser, server, refresh, before, stored } = await createWorld()
    server.answers.push(() => {
      browser.online = false
      return json({}, 429, { 'retry-after': '100' })
    })
    await refresh(before)
    expect((await stored()).retry).toMatchObject({
      notBefore: browser.now() + 102_000,
      asked: true,
    })
  })
})

describe('a refresh that is overtaken', () => {
  test('is not sent where the stored refresh token is another one by now (RF-04)', async () => {
    const { refresh, before, server, session } = await createWorld()
    await session.changeOwn(before.session, (current) => ({ ...current, refreshToken: 'newer' }))
    expect(await refresh(before)).toEqual({ kind: 'superseded' })
    expect(server.requests).toEqual([])
  })

  test('is not sent after a sign-out', async () => {
    const { refresh, before, server, session } = await createWorld()
    await session.end('logout')
    expect(await refresh(before)).toEqual({ kind: 'superseded' })
    expect(server.requests).toEqual([])
  })

  test('by a sign-out is discarded, and its new token revoked (RF-11)', async () => {
    const { refresh, before, server, session, store } = await createWorld()
    server.answers.push(async (request) => {
      await session.end('logout')
      return server.grant(request)
    })
    expect(await refresh(before)).toEqual({ kind: 'superseded' })
    expect(await store.read()).toMatchObject({ status: 'ended', reason: 'logout' })
    expect(server.revoked).toEqual([server.refreshToken()])
  })

  test('by a new sign-in is dropped, and nothing revoked: they may share a grant (RF-11)', async () => {
    const { refresh, before, server, session, stored } = await createWorld()
    server.answers.push(async (request) => {
      await session.change(() => ({
        ...before,
        session: 'session-2',
        refreshToken: 'of-session-2',
      }))
      return server.grant(request)
    })
    expect(await refresh(before)).toEqual({ kind: 'superseded' })
    expect(await stored()).toMatchObject({ session: 'session-2', refreshToken: 'of-session-2' })
    await settle()
    expect(server.revoked).toEqual([])
  })

  test('by the sign-in of another user is discarded, and its new token revoked (SE-08)', async () => {
    const { refresh, before, server, session, stored } = await createWorld()
    server.answers.push(async (request) => {
      await session.change(() => ({ ...before, session: 'session-2', subject: 'bob' }))
      return server.grant(request)
    })
    expect(await refresh(before)).toEqual({ kind: 'superseded' })
    expect(await stored()).toMatchObject({ subject: 'bob', refreshToken: before.refreshToken })
    expect(server.revoked).toEqual([server.refreshToken()])
  })
})
