/** What the record of a signed-in user says, and what it becomes. */
import { randomId } from '../values/random-id.js'
import { pauseAfter } from './backoff.js'
import type { ActiveRecord, SessionRecord } from './records.js'

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

/** A clock that was set back by more than this, in ms, makes the times of a token worthless. */
const tolerableSetback = 60_000

/** Is there an access token, and has it time left as far as the clock can tell? */
export const hasLiveToken = (record: ActiveRecord, now: number): boolean =>
  record.accessToken !== undefined &&
  now >= record.accessTokenIssuedAt - tolerableSetback &&
  now < (record.accessTokenExpiresAt ?? Infinity)

/** Two sign-ins of one user are as good as one; without a subject, each is on its own. */
export const ownerOf = ({ user, session }: ActiveRecord): string => user ?? session

/** The record with a new access token, and what is written about renewals tidied up. */
export const withTokens = (record: ActiveRecord, tokens: IssuedTokens): ActiveRecord => ({
  ...record,
  accessToken: tokens.accessToken,
  accessTokenIssuedAt: tokens.issuedAt,
  accessTokenExpiresAt: tokens.expiresAt,
  // A missing scope means: as before (RFC 6749 5.1).
  scope: tokens.scope ?? record.scope,
  // A missing refresh token too (RFC 6749 6); what was unknown of the old one stays unknown.
  refreshToken: tokens.refreshToken ?? record.refreshToken,
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
  return { ...record, retry: { failures, notBefore, asked } }
}

/**
 * Whose profile this was, that two users have used it, and what has ended, outlives a session. Ends
 * have random names rather than numbers, so that a record that is made anew has other ones.
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
    lastEnd: isSignOut || record.status === 'ended' ? randomId() : from?.lastEnd,
    lastSignOut: isSignOut ? randomId() : from?.lastSignOut,
  }
}
