import type { TokenError } from '../../src/shared/errors.js'
import type { Platform } from '../platform.js'
import type { AuthorizationServer, RefreshAnswer } from '../server/authorization-server.js'
import { type WorkerSession, withTokens } from '../session/session.js'
import type { ActiveRecord } from '../session/store.js'
import type { Note } from '../trace.js'

/** How a refresh went, told apart by what its caller can do next. */
export type RefreshOutcome =
  | { kind: 'renewed'; record: ActiveRecord }
  /** Another worker or a new sign-in has changed the session meanwhile: look again. */
  | { kind: 'superseded' }
  /** A silent login has to bring the next token: the server refuses to refresh. */
  | { kind: 'refused'; error: TokenError }
  /** Nothing is lost; try again later. */
  | { kind: 'failed'; error: TokenError }

/** The refresh grant, so that a stop of the worker at any point loses nothing it need not lose. */
export const createRefresh = (
  server: Pick<AuthorizationServer, 'refresh' | 'revoke' | 'readIdToken'>,
  session: Pick<WorkerSession, 'changeOwn' | 'end' | 'pause' | 'tellProblem' | 'readAgain'>,
  { now }: Pick<Platform, 'now'>,
  note?: Note,
) => {
  /** An answer that the disk would not take: the token it was for must not be sent again. */
  let unsaved: { refreshToken: string; answer: RefreshAnswer } | undefined

  /** The ID token that came along: new claims, or the end of a session that is another user's. */
  const readClaims = async (record: ActiveRecord, idToken: string) => {
    const seen = await server.readIdToken(idToken, record)
    if (seen.kind === 'other-user') {
      await session.end('user_changed', record.session)
      return undefined
    }
    if (seen.kind === 'same') {
      return await session.changeOwn(record.session, (current) => ({
        ...current,
        claims: { ...current.claims, ...seen.claims },
        idToken,
      }))
    }
    // A wrong clock or an unknown key must not cost the session: keep what was known.
    await session.tellProblem(seen.error)
    return record
  }

  /** Must run under the renewal lock, with the record as it was read inside the lock. */
  const refresh = async (record: ActiveRecord): Promise<RefreshOutcome> => {
    const refreshToken = record.refreshToken as string
    /** Changes the record, unless its refresh token is no longer the one that is sent here. */
    const changeSame = (next: (current: ActiveRecord) => ActiveRecord) =>
      session.changeOwn(record.session, (current) =>
        current.refreshToken === refreshToken ? next(current) : undefined,
      )

    note?.('refreshing')
    // If the worker is stopped from here on, the next one knows that the token may be spent.
    const intent = await changeSame((current) => ({
      ...current,
      refreshSentAt: current.refreshSentAt ?? now(),
    }))
    if (intent?.refreshToken !== refreshToken) return { kind: 'superseded' }

    const answer =
      unsaved?.refreshToken === refreshToken
        ? unsaved.answer
        : await server.refresh(refreshToken, intent.dpopKey)
    if (answer.kind === 'issued') {
      const { tokens } = answer
      unsaved = { refreshToken, answer }
      // On disk before anything else: the server has forgotten the old token by now.
      const stored = await changeSame((current) =>
        withTokens({ ...current, refreshSentAt: undefined }, tokens),
      )
      unsaved = undefined
      if (stored?.accessToken !== tokens.accessToken) {
        const current = await session.readAgain()
        // Signed out meanwhile, or somebody else is in. A new sign-in of the same user may share
        // the grant, so it is left alone then.
        const isSame = current?.status === 'active' && current.subject === record.subject
        if (!isSame && tokens.refreshToken !== undefined) {
          await server.revoke(tokens.refreshToken)
        }
        return { kind: 'superseded' }
      }
      const { idToken } = tokens
      const renewed = idToken === undefined ? stored : await readClaims(stored, idToken)
      if (!renewed) return { kind: 'superseded' }
      note?.('refreshed')
      return { kind: 'renewed', record: renewed }
    }

    const { error } = answer
    note?.('refresh-failed', { code: error.code })
    const left = await changeSame((current) => {
      // Without an answer, what happened to the token is unknown, and frames that brought nothing
      // met the same silence: the next one still comes before this token. An answer that decides
      // nothing leaves all as it was before.
      const { refreshSentAt } = record
      const changed =
        answer.kind === 'unknown' ? { silentLoginFailed: undefined } : { refreshSentAt }
      const known = { ...current, ...changed }
      switch (answer.kind) {
        case 'refused':
          return { ...known, refreshToken: undefined, refreshSentAt: undefined }
        case 'not-now':
          return known
        case 'misconfigured':
          return session.pause(known)
        default:
          // Offline, each try fails at once and bothers nobody; back online, it should not be late.
          return error.code === 'offline' ? known : session.pause(known, answer.retryAfter)
      }
    })
    switch (answer.kind) {
      case 'refused':
        // Where a newer token was stored all along, this answer is about an old one.
        return left && left.refreshToken === undefined
          ? { kind: 'refused', error }
          : { kind: 'superseded' }
      case 'not-now':
        return { kind: 'refused', error }
      case 'misconfigured':
        await session.tellProblem(error)
        return { kind: 'failed', error }
      default:
        return { kind: 'failed', error }
    }
  }

  return Object.assign(refresh, {
    /** Has the server answered this refresh token already, and only the disk not taken it? */
    isAnswered: ({ refreshToken }: ActiveRecord) => unsaved?.refreshToken === refreshToken,
  })
}

export type Refresh = ReturnType<typeof createRefresh>
