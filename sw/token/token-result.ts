/** What a request gets of the record, and how good its token still is. Pure. */
import { TokenError } from '../../src/shared/errors.js'
import { hasLiveToken, isRefused, ownerOf } from '../session/active-record.js'
import type { ActiveRecord, DpopKey, SessionRecord } from '../session/records.js'
import { ageOf } from '../values/age.js'

/** A token, and whose it is. */
export interface Token {
  kind: 'token'
  accessToken: string
  /** Who is signed in, as a hash that stays the same from sign-in to sign-in. */
  owner: string
  dpopKey?: DpopKey
  /** The browser may have cached answers for another user, so they must not be read. */
  reload?: boolean
}

/** Somebody is signed in, but no token can be had now. */
export interface NoToken {
  kind: 'unavailable'
  error: TokenError
}

/** What a request gets: a token, or why there is none. */
export type TokenResult =
  | Token
  /** Nobody is signed in, or no longer: the API itself answers a request without a token. */
  | { kind: 'signed-out'; reload?: boolean }
  | NoToken

/** A token younger than this, in ms, is not renewed for its expiry again. */
const leastInterval = 5_000

export const notNow = (): NoToken => ({
  kind: 'unavailable',
  error: new TokenError('timeout', 'The access token could not be renewed in time.'),
})

/** One user's request never goes with another one's token. */
export const userChanged = (): NoToken => ({
  kind: 'unavailable',
  error: new TokenError('user_changed', 'Another sign-in has replaced the session.'),
})

/** What was cached for a user who was signed in before must not be read. */
export const signedOut = (record: SessionRecord | undefined): TokenResult => ({
  kind: 'signed-out',
  reload: record && true,
})

export const toResult = (record: ActiveRecord): TokenResult =>
  record.accessToken === undefined
    ? notNow()
    : {
        kind: 'token',
        accessToken: record.accessToken,
        owner: ownerOf(record),
        dpopKey: record.dpopKey,
        reload: record.usersChanged,
      }

/**
 * How good the token is. `fresh`: use it. `ageing`: use it, and renew it meanwhile. `dead`: renew
 * it first.
 *
 * @param leeway ms before its end from which a token is ageing
 */
export const conditionOf = (
  record: ActiveRecord,
  { now, leeway }: { now: number; leeway: number },
): 'fresh' | 'ageing' | 'dead' => {
  const { accessToken, accessTokenIssuedAt: issuedAt, accessTokenExpiresAt: expiresAt } = record
  // Very short tokens: the API says by a 401 whether this one is over.
  if (accessToken !== undefined && ageOf(issuedAt, now) < leastInterval) return 'fresh'
  if (!hasLiveToken(record, now)) return 'dead'
  // Another API may still take it.
  if (isRefused(record)) return 'ageing'
  if (expiresAt === undefined) return 'fresh'
  return expiresAt - now < Math.min(leeway, (expiresAt - issuedAt) / 2) ? 'ageing' : 'fresh'
}
