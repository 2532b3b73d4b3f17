// @vitest-environment jsdom
import { describe, expect, test, vi } from 'vitest'
import type { SessionEvent } from '../../src/session-event.js'
import { TokenError } from '../../src/shared/errors.js'
import type { Session } from '../../src/shared/protocol.js'
import { createTestTokenManager } from '../../src/testing.js'

const session: Session = { claims: { sub: 'ada' }, scope: 'openid', state: 'fresh', since: 1 }

describe('a token manager for tests', () => {
  test('starts signed out, and is ready', async () => {
    const auth = createTestTokenManager()
    await expect(auth.ready).resolves.toBeUndefined()
    expect(await auth.session()).toBeUndefined()
    expect(await auth.checkSession()).toBeUndefined()
    await expect(auth.renew()).rejects.toMatchObject({ code: 'signed_out', name: 'TokenError' })
  })

  test('starts with a session, completed with plain values', async () => {
    const auth = createTestTokenManager({ session: { claims: { name: 'Ada' } } })
    expect(await auth.session()).toEqual({
      claims: { name: 'Ada' },
      scope: 'openid',
      state: 'fresh',
      since: 0,
    })
    expect(await auth.checkSession()).toEqual(await auth.session())
  })

  test('gives the first listener the events it was made with, in order and later', async () => {
    const events: SessionEvent[] = [
      { type: 'problem', error: new TokenError('access_denied', 'No.') },
      { type: 'signed-in', session },
    ]
    const auth = createTestTokenManager({ events })
    const first = vi.fn()
    const second = vi.fn()
    auth.onChange(first)
    expect(first).not.toHaveBeenCalled()
    await Promise.resolve()
    auth.onChange(second)
    await Promise.resolve()
    expect(first.mock.calls).toEqual(events.map((event) => [event]))
    expect(second).not.toHaveBeenCalled()
    expect(await auth.session()).toEqual(session)
  })

  test('lets events happen, and the session follows them', async () => {
    const auth = createTestTokenManager()
    const listener = vi.fn()
    auth.onChange(listener)
    auth.emit({ type: 'signed-in', session })
    expect(await auth.session()).toBe(session)
    auth.emit({ type: 'login-required', error: new TokenError('login_required', 'Sign in.') })
    expect(await auth.session()).toBe(session)
    auth.emit({ type: 'signed-out', reason: 'ended' })
    expect(await auth.session()).toBeUndefined()
    expect(listener).toHaveBeenCalledTimes(3)
  })

  test('signs out, and tells of it once', async () => {
    const auth = createTestTokenManager({ session })
    const listener = vi.fn()
    auth.onChange(listener)
    expect(await auth.logout({ local: true })).toEqual({ server: 'unknown' })
    await auth.logout()
    expect(listener.mock.calls).toEqual([[{ type: 'signed-out', reason: 'logout' }]])
    expect(await auth.session()).toBeUndefined()
  })

  test('renews, and tells of it', async () => {
    const auth = createTestTokenManager({ session: { state: 'stale' } })
    const listener = vi.fn()
    auth.onChange(listener)
    await auth.renew()
    expect(listener.mock.calls).toMatchObject([[{ type: 'renewed', session: { state: 'fresh' } }]])
  })

  test('never comes back from a sign-in, as in a browser', async () => {
    const auth = createTestTokenManager()
    const settled = vi.fn()
    auth.login({ returnTo: '/x' }).then(settled, settled)
    await new Promise((resolve) => setTimeout(resolve, 5))
    expect(settled).not.toHaveBeenCalled()
  })

  test('writes down what it was asked for, in order', async () => {
    const auth = createTestTokenManager({ session })
    void auth.login({ params: { prompt: 'login' } })
    await auth.renew()
    await auth.checkSession()
    await auth.logout({ local: true })
    expect(auth.calls).toEqual([
      { name: 'login', input: { params: { prompt: 'login' } } },
      { name: 'renew' },
      { name: 'checkSession' },
      { name: 'logout', input: { local: true } },
    ])
  })

  test('lets listeners go: by the function, by the signal, by close()', () => {
    const auth = createTestTokenManager()
    const listener = vi.fn()
    const event: SessionEvent = { type: 'signed-in', session }
    const remove = auth.onChange(listener)
    remove()
    const abort = new AbortController()
    auth.onChange(listener, { signal: abort.signal })
    abort.abort()
    auth.onChange(listener, { signal: abort.signal })
    auth.emit(event)
    expect(listener).not.toHaveBeenCalled()
    auth.onChange(listener)
    auth.close()
    auth.emit(event)
    expect(listener).not.toHaveBeenCalled()
  })
})
