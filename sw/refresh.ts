import type { TokenError } from '../src/shared/errors.js'
import type { AuthorizationServer } from './authorization-server.js'
import type { Platform } from './platform.js'
import { type WorkerSession, withTokens } from './session.js'
import type { ActiveRecord } from './store.js'
import type { Trace } from './trace.js'

/** How a refresh went, told apart by what its caller can do next. */
export type RefreshOutcome =
  | { kind: 'renewed'; record: ActiveRecord }
  /** Another worker or a new sign-in has changed the session meanwhile: look again. */
  | { kind: 'superseded' }
  /** There is no refresh token, or no longer. */
  | { kind: 'refused'; error: TokenError }
  /** The server wants to see the user; the refresh token is still held. */
  | { kind: 'not-now'; error: TokenError }
  /** Nothing is lost; try again later. */
  | { kind: 'failed'; error: TokenError }

const firstPause = 1_000
const longestPause = 60_000
const longestRetryAfter = 300_000

/** The refresh grant, so that a stop of the worker at any point loses nothing it need not lose. */
export const createRefresh = (
  server: Pick<AuthorizationServer, 'refresh' | 'revoke' | 'readIdToken'>,
  session: Pick<
    WorkerSession,
    'change' | 'changeOwn' | 'end' | 'tell' | 'tellProblem' | 'readAgain'
  >,
  { now, random, online }: Pick<Platform, 'now' | 'random' | 'online'>,
  trace?: Trace,
) => {
  /** Full jitter, so that clients which failed together do not come back together. */
  const backOff = (record: ActiveRecord, retryAfter = 0): ActiveRecord => {
    // Offline, each try fails at once and bothers nobody; back online, it should not be late.
    if (!online()) return record
    const failures = (record.retry?.failures ?? 0) + 1
    const pause = random() * Math.min(longestPause, firstPause * 2 ** failures)
    const asked = Math.min(retryAfter, longestRetryAfter)
    return { ...record, retry: { failures, notBefore: now() + Math.max(pause, asked) } }
  }

  const answered = (record: ActiveRecord): ActiveRecord => {
    const { refreshSentAt: _, ...rest } = record
    return rest
  }

  const readNewClaims = async (record: ActiveRecord, idToken: string) => {
    const { subject, accessToken = '' } = record
    const seen = await server.readIdToken(idToken, {
      accessToken,
      ...(subject !== undefined && { subject }),
    })
    if (seen.kind === 'other-user') {
      await session.end(record.session, 'user_changed')
      return undefined
    }
    if (seen.kind === 'unusable') {
      // A wrong clock or an unknown key must not cost the session: keep what was known.
      await session.tellProblem(seen.error)
      return record
    }
    return await session.changeOwn(record.session, (current) => ({
      ...current,
      claims: { ...current.claims, ...seen.claims },
      idToken,
    }))
  }

  /** Must run under the renewal lock, with the record as it was read inside the lock. */
  return async (record: ActiveRecord): Promise<RefreshOutcome> => {
    const { refreshToken } = record
    if (refreshToken === undefined) throw new TypeError('refresh needs a refresh token')
    const own = (next: (current: ActiveRecord) => ActiveRecord) =>
      session.changeOwn(record.session, (current) =>
        current.refreshToken === refreshToken ? next(current) : undefined,
      )
    const fail = (code: string) => trace?.({ at: now(), step: 'refresh-failed', code })

    trace?.({ at: now(), step: 'refreshing' })
    // If the worker is stopped from here on, the next one knows that the token may be spent.
    const intent = await own((current) => ({ ...current, refreshSentAt: now() }))
    if (intent?.refreshToken !== refreshToken) return { kind: 'superseded' }

    const answer = await server.refresh(refreshToken)
    switch (answer.kind) {
      case 'issued': {
        const { tokens } = answer
        // On disk before anything else: the server has forgotten the old token by now.
        const stored = await own((current) => withTokens(answered(current), tokens))
        if (stored?.accessToken !== tokens.accessToken) {
          const current = await session.readAgain()
          // Signed out meanwhile. A new sign-in may share the grant, so it is left alone then.
          if (current?.status !== 'active' && tokens.refreshToken !== undefined) {
            await server.revoke(tokens.refreshToken)
          }
          return { kind: 'superseded' }
        }
        const { idToken } = tokens
        const renewed = idToken === undefined ? stored : await readNewClaims(stored, idToken)
        if (!renewed) return { kind: 'superseded' }
        trace?.({ at: now(), step: 'refreshed' })
        return { kind: 'renewed', record: renewed }
      }
      case 'refused': {
        fail(answer.error.code)
        const left = await own((current) => {
          const { refreshToken: _, ...rest } = answered(current)
          return rest
        })
        // Another worker had a newer token stored all along: this answer is about an old one.
        if (!left || left.refreshToken !== undefined) return { kind: 'superseded' }
        return { kind: 'refused', error: answer.error }
      }
      case 'not-now':
        fail(answer.error.code)
        await own(answered)
        return { kind: 'not-now', error: answer.error }
      case 'misconfigured':
        fail(answer.error.code)
        await own((current) => backOff(answered(current)))
        await session.tellProblem(answer.error)
        return { kind: 'failed', error: answer.error }
      case 'unavailable':
        fail(answer.error.code)
        await own((current) => backOff(answered(current), answer.retryAfter))
        return { kind: 'failed', error: answer.error }
      case 'unknown':
        fail(answer.error.code)
        await own((current) => backOff(current))
        return { kind: 'failed', error: answer.error }
    }
  }
}

export type Refresh = ReturnType<typeof createRefresh>
