import type { TokenError } from '../../src/shared/errors.js'
import type { Platform } from '../platform.js'
import type { AuthorizationServer } from '../server/authorization-server.js'
import type { RefreshAnswer } from '../server/token-answer.js'
import {
  type IssuedTokens,
  isRefusedForGood,
  withoutRefusals,
  withRefusal,
  withTokens,
} from '../session/active-record.js'
import { type ActiveRecord, activeOf } from '../session/records.js'
import type { WorkerSession } from '../session/session.js'
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

export interface Refresh {
  /** Must run under the renewal lock, with the record as it was read inside the lock. */
  (record: ActiveRecord): Promise<RefreshOutcome>
  /** Has the server answered this refresh token already, and only the disk not taken it? */
  isAnswered(record: ActiveRecord): boolean
}

type Refused = Exclude<RefreshAnswer, { kind: 'issued' }>

/**
 * What the record becomes after an answer without tokens.
 *
 * @param sent The record as it was before this refresh token was sent
 */
const afterRefusal = (
  current: ActiveRecord,
  sent: ActiveRecord,
  { answer, now, pause }: { answer: Refused; now: number; pause: WorkerSession['pause'] },
): ActiveRecord => {
  // An answer that decides nothing leaves all as it was before.
  const known = { ...current, refreshSentAt: sent.refreshSentAt }
  switch (answer.kind) {
    case 'refused':
      return { ...known, refreshToken: undefined, refreshSentAt: undefined }
    case 'not-now':
      return known
    case 'rejected': {
      const counted = withRefusal(answer.acted ? current : known, now)
      // What is refused for good is no reason to wait: a silent login comes next.
      return isRefusedForGood(counted) ? counted : pause(counted)
    }
    default: {
      // Without an answer, what happened to the token is unknown, and frames that brought nothing
      // met the same silence: the next one still comes before this token.
      const left = answer.kind === 'unknown' ? { ...current, silentLoginFailed: undefined } : known
      // Offline, each try fails at once and costs nothing; back online, it should not be late.
      if (answer.error.code === 'offline') return left
      return pause(withoutRefusals(left), answer.retryAfter)
    }
  }
}

/** After so many failures in a row, pages hear why: it may be no passing thing. */
const failuresToReport = 3

/** Is this the first that pages should hear of it? */
const isNews = ({ retry }: ActiveRecord, { kind, error }: Refused): boolean => {
  if (kind === 'rejected') return !retry?.refused
  const isLater = kind === 'unavailable' || kind === 'unknown'
  return isLater && error.code !== 'offline' && retry?.failures === failuresToReport - 1
}

/** The ID token that came along: new claims, or the end of a session that is another user's. */
const readClaims = async (
  record: ActiveRecord,
  idToken: string,
  { server, session }: Pick<Parts, 'server' | 'session'>,
): Promise<ActiveRecord | undefined> => {
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
      hintRefused: undefined,
    }))
  }
  // A wrong clock or an unknown key must not cost the session: the claims stay as they were.
  await session.reportProblem(seen.error)
  return record
}

interface Parts {
  server: Pick<AuthorizationServer, 'refresh' | 'revoke' | 'readIdToken'>
  session: Pick<WorkerSession, 'changeOwn' | 'end' | 'pause' | 'reportProblem' | 'readAgain'>
  platform: Pick<Platform, 'now'>
  note?: Note
}

/** Creates the refresh grant. A stop of the worker loses no more than it must, at any point. */
export function createRefresh({ server, session, platform: { now }, note }: Parts): Refresh {
  /** An answer that the disk would not take: the token it was for must not be sent again. */
  let unsaved: { refreshToken: string; answer: RefreshAnswer } | undefined

  const isAnswered = ({ refreshToken }: ActiveRecord) => unsaved?.refreshToken === refreshToken

  /** Changes the record, unless its refresh token is no longer the one of `sent`. */
  const changeSame = (sent: ActiveRecord, next: (current: ActiveRecord) => ActiveRecord) =>
    session.changeOwn(sent.session, (current) =>
      current.refreshToken === sent.refreshToken ? next(current) : undefined,
    )

  const takeTokens = async (
    record: ActiveRecord,
    tokens: IssuedTokens,
  ): Promise<RefreshOutcome> => {
    // On disk before anything else: the server no longer takes the old token.
    const stored = await changeSame(record, (current) =>
      withTokens({ ...current, refreshSentAt: undefined, retry: undefined }, tokens),
    )
    unsaved = undefined
    if (stored?.accessToken !== tokens.accessToken) {
      const current = activeOf(await session.readAgain())
      // Signed out meanwhile, or another user is in. A new sign-in of the same user may share the
      // grant, so its tokens are left alone.
      const isSame = current && current.subject === record.subject
      if (!isSame && tokens.refreshToken !== undefined) await server.revoke(tokens.refreshToken)
      return { kind: 'superseded' }
    }
    const { idToken } = tokens
    const renewed =
      idToken === undefined ? stored : await readClaims(stored, idToken, { server, session })
    if (!renewed) return { kind: 'superseded' }
    note?.('refreshed')
    return { kind: 'renewed', record: renewed }
  }

  const takeRefusal = async (record: ActiveRecord, answer: Refused): Promise<RefreshOutcome> => {
    const { error } = answer
    note?.('refresh-failed', { code: error.code })
    const { pause } = session
    // Before it is written down: a worker that is stopped then reports it twice, not never.
    if (isNews(record, answer)) await session.reportProblem(error)
    const left = await changeSame(record, (current) =>
      afterRefusal(current, record, { answer, now: now(), pause }),
    )
    switch (answer.kind) {
      case 'refused':
        // If a newer token is stored by now, this answer is about an old one.
        return left && left.refreshToken === undefined
          ? { kind: 'refused', error }
          : { kind: 'superseded' }
      case 'not-now':
        return { kind: 'refused', error }
      case 'rejected':
        return { kind: left && isRefusedForGood(left) ? 'refused' : 'failed', error }
      default:
        return { kind: 'failed', error }
    }
  }

  const refresh = async (record: ActiveRecord): Promise<RefreshOutcome> => {
    const refreshToken = record.refreshToken as string
    note?.('refreshing')
    // If the worker is stopped from here on, the next one knows that the token may be spent.
    const intent = await changeSame(record, (current) => ({
      ...current,
      refreshSentAt: current.refreshSentAt ?? now(),
    }))
    if (intent?.refreshToken !== refreshToken) return { kind: 'superseded' }
    const answer =
      unsaved && isAnswered(record)
        ? unsaved.answer
        : await server.refresh(refreshToken, intent.dpopKey)
    if (answer.kind !== 'issued') return await takeRefusal(record, answer)
    unsaved = { refreshToken, answer }
    return await takeTokens(record, answer.tokens)
  }

  return Object.assign(refresh, { isAnswered })
}
