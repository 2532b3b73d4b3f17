/** What the record of a signed-in user says, and what it becomes. */
import { randomId } from '../values/random-id.js'
import { pauseAfter } from './backoff.js'
import { type ActiveRecord, lastLogoutOf, type SessionRecord } from './records.js'

/** Tokens as the server issued them, with times instead of durations. */
export interface IssuedTokens {
  accessToken: string
  /** ms since 1970 */
  issuedAt: number
  /** ms since 1970; absent if the server did not say */
  expiresAt?: number
  refreshToken?: string
  scope?: string
  idToken?: string
}

/**
 * A longer hint than this, in characters, is left out: some servers refuse a URL, or all headers
 * together, from 8 kB.
 */
const longestHint = 4_000

/** A clock that was set back by more than this, in ms, makes the times of a token worthless. */
const tolerableSetback = 60_000

/** Is there an access token, and has it time left as far as the clock can tell? */
export const hasLiveToken = (record: ActiveRecord, now: number): boolean =>
  record.accessToken !== undefined &&
  now >= record.accessTokenIssuedAt - tolerableSetback &&
  now < (record.accessTokenExpiresAt ?? Infinity)

/** Has an API refused this access token? */
export const isRefused = (record: ActiveRecord): boolean =>
  record.accessTokenRefused === record.accessTokenIssuedAt

/** Is there an access token that lives and that no API has refused? */
export const hasGoodToken = (record: ActiveRecord, now: number): boolean =>
  hasLiveToken(record, now) && !isRefused(record)

/** One refusal may be a proxy's in an outage; a row of them over so many ms is the server's. */
const proofAfter = 120_000

/** The record after a refusal of its refresh token that could be an outage. */
export const withRefusal = (record: ActiveRecord, now: number): ActiveRecord => {
  const { failures = 0, notBefore = 0, refused } = record.retry ?? {}
  // The clock may have been set back.
  const first = Math.min(refused?.first ?? now, now)
  return { ...record, retry: { failures, notBefore, refused: { first, last: now } } }
}

/** The record after an answer that is no refusal: the row of them is over. */
export const withoutRefusals = (record: ActiveRecord): ActiveRecord => ({
  ...record,
  retry: record.retry && { ...record.retry, refused: undefined },
})

/** Has its refresh token been refused so long that it is no outage? */
export const isRefusedForGood = ({ retry }: ActiveRecord): boolean =>
  retry?.refused !== undefined && retry.refused.last - retry.refused.first >= proofAfter

/** Two sign-ins of one user are as good as one; without a subject, each is on its own. */
export const ownerOf = ({ user, session }: ActiveRecord): string => user ?? session

/** The ID token as a hint for the server: a help that must not fail the request that carries it. */
export const hintOf = ({
  idToken,
  hintRefused,
}: Pick<ActiveRecord, 'idToken' | 'hintRefused'> = {}): string | undefined =>
  hintRefused || (idToken ?? '').length > longestHint ? undefined : idToken

/** The record with a new access token, and what is written about renewals tidied up. */
export const withTokens = (record: ActiveRecord, tokens: IssuedTokens): ActiveRecord => ({
  ...record,
  accessToken: tokens.accessToken,
  accessTokenIssuedAt: tokens.issuedAt,
  accessTokenExpiresAt: tokens.expiresAt,
  accessTokenRefused: undefined,
  // A missing scope means: as before (RFC 6749 5.1).
  scope: tokens.scope ?? record.scope,
  // A missing refresh token too (RFC 6749 6); what was unknown of the old one stays unknown. One
  // that was refused for good is worth nothing where the server gives tokens in another way.
  refreshToken: tokens.refreshToken ?? (isRefusedForGood(record) ? undefined : record.refreshToken),
  refreshSentAt: tokens.refreshToken === undefined ? record.refreshSentAt : undefined,
  retry: undefined,
  loginRequired: undefined,
})

/** The record with a pause before the next renewal, which every tab and worker keeps. */
export const withPause = (
  record: ActiveRecord,
  { now, chance, retryAfter }: { now: number; chance: number; retryAfter?: number },
): ActiveRecord => {
  const failures = (record.retry?.failures ?? 0) + 1
  const notBefore = now + pauseAfter(failures, chance, { retryAfter })
  const asked = retryAfter === undefined ? undefined : true
  return { ...record, retry: { ...record.retry, failures, notBefore, asked } }
}

/**
 * Whose profile this was, that two users have used it, the last logout, and what has ended, outlive
 * a session. Ends have random names rather than numbers, so that a record that is made anew has
 * other ones.
 */
export const inherit = (record: SessionRecord, from: SessionRecord | undefined): SessionRecord => {
  const { user = from?.user } = record
  const isOther = from !== undefined && from.user !== user
  const usersChanged = isOther || record.usersChanged || from?.usersChanged
  const isSignOut = from?.user !== user || (record.status === 'ended' && record.reason === 'logout')
  return {
    ...record,
    user,
    usersChanged: usersChanged || undefined,
    loggedOut: lastLogoutOf(from),
    lastEnd: isSignOut || record.status === 'ended' ? randomId() : from?.lastEnd,
    lastSignOut: isSignOut ? randomId() : from?.lastSignOut,
  }
}
