import { describe, expect, test } from 'vitest'
import { afterEvent, type KnownSession, newsBetween } from '../../src/session-news.js'
import { TokenError } from '../../src/shared/errors.js'
import type { Session } from '../../src/shared/protocol.js'

const session = (more: Partial<Session> = {}): Session => ({
  claims: { sub: 'alice' },
  scope: 'openid',
  state: 'fresh',
  since: 1,
  accessTokenExpiresAt: 900_000,
  ...more,
})
const stale = session({ state: 'stale' })
const later = session({ accessTokenExpiresAt: 1_800_000 })
const again = session({ since: 2 })
const bob = session({ since: 2, claims: { sub: 'bob' } })

describe('the news', () => {
  test.each<[string, Session | undefined, Session | undefined, unknown[]]>([
    ['nothing changed', session(), session(), []],
    ['still no session', undefined, undefined, []],
    ['the same session as another object', session(), structuredClone(session()), []],
    ['a sign-in', undefined, session(), [{ type: 'signed-in', session: session() }]],
    ['another sign-in', session(), again, [{ type: 'signed-in', session: again }]],
    ['a renewal', session(), later, [{ type: 'renewed', session: later }]],
    ['a renewal of a stale session', stale, later, [{ type: 'renewed', session: later }]],
    ['an expiry', session(), stale, [{ type: 'state', session: stale }]],
    ['a recovery without a new token', stale, session(), [{ type: 'state', session: session() }]],
    [
      'a renewal that has expired again',
      session(),
      { ...later, state: 'stale' },
      [{ type: 'state', session: { ...later, state: 'stale' } }],
    ],
    [
      'another user: first out, then in',
      session(),
      bob,
      [
        { type: 'signed-out', reason: 'user_changed' },
        { type: 'signed-in', session: bob },
      ],
    ],
    [
      'an emptied database',
      session(),
      undefined,
      [{ type: 'signed-out', reason: 'storage_cleared' }],
    ],
  ])('of %s', (_what, before, after, news) => {
    expect(newsBetween({ session: before }, { session: after })).toEqual(news)
  })

  test('of a sign-out gives the reason that the worker reports', () => {
    expect(newsBetween({ session: session() }, { ended: 'logout' })).toEqual([
      { type: 'signed-out', reason: 'logout' },
    ])
    expect(newsBetween({ session: undefined }, { ended: 'logout' })).toEqual([])
    const asked = { ended: 'ended', code: 'consent_required' } as const
    expect(newsBetween({ session: session() }, asked)).toEqual([
      { type: 'signed-out', reason: 'ended', code: 'consent_required' },
    ])
  })

  test('of the first report is only the need for a sign-in', () => {
    const start: KnownSession = { session: null }
    expect(newsBetween(start, { session: session() })).toEqual([])
    expect(newsBetween(start, {})).toEqual([])
    expect(newsBetween(start, { session: stale, loginRequired: true })).toMatchObject([
      {
        type: 'login-required',
        error: { name: 'TokenError', code: 'login_required' },
        session: stale,
      },
    ])
  })

  test('contains the need for a sign-in once, and last', () => {
    const report = { session: stale, loginRequired: true as const }
    expect(newsBetween({ session: session() }, report).map(({ type }) => type)).toEqual([
      'state',
      'login-required',
    ])
    expect(newsBetween({ session: stale, loginRequired: true }, report)).toEqual([])
    expect(newsBetween({ session: stale, loginRequired: true }, { session: stale })).toEqual([])
  })

  test('changes neither of the two states', () => {
    const known = Object.freeze({ session: Object.freeze(session()) })
    expect(newsBetween(known, Object.freeze({ session: bob }))).toHaveLength(2)
  })
})

describe('after an event, listeners know', () => {
  const known: KnownSession = { session: session(), loginRequired: true }
  const error = new TokenError('offline', '')

  test.each(['signed-in', 'renewed'] as const)('of %s: the session, and no need', (type) => {
    expect(afterEvent(known, { type, session: later })).toEqual({
      session: later,
      loginRequired: false,
    })
  })

  test('of state: the session, and the need as before', () => {
    expect(afterEvent(known, { type: 'state', session: stale })).toEqual({
      session: stale,
      loginRequired: true,
    })
  })

  test('of signed-out: no session, no need', () => {
    expect(afterEvent(known, { type: 'signed-out', reason: 'logout' })).toEqual({
      session: undefined,
      loginRequired: false,
    })
  })

  test('of login-required: the need, and the session if the event carries one', () => {
    const before: KnownSession = { session: session() }
    const event = { type: 'login-required', error } as const
    expect(afterEvent(before, event)).toEqual({ session: session(), loginRequired: true })
    expect(afterEvent(before, { ...event, session: stale })).toEqual({
      session: stale,
      loginRequired: true,
    })
  })

  test('of a problem or a step-up: nothing new', () => {
    expect(afterEvent(known, { type: 'problem', error })).toEqual(known)
    expect(afterEvent(known, { type: 'step-up', wants: 'scope', params: {} })).toEqual(known)
    expect(afterEvent({ session: null }, { type: 'problem', error }).session).toBeNull()
  })

  test('and the news between it and the same report is empty', () => {
    const after = afterEvent({ session: session() }, { type: 'renewed', session: later })
    expect(newsBetween(after, { session: later })).toEqual([])
  })
})
