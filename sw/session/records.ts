/**
 * What lies in the database: docs/storage.md describes it. It is a contract between worker versions
 * that run side by side, so a field keeps its name and meaning.
 */
import type { InteractionCode, TokenErrorData } from '../../src/shared/errors.js'
import type { Claims, SignedOutReason } from '../../src/shared/protocol.js'

/** A key pair that tokens are bound to (RFC 9449). */
export interface DpopKey {
  /** Names the key: the thumbprint of its public half (RFC 7638). */
  jkt: string
  /** The public half, as proofs show it. */
  jwk: { crv: string; kty: string; x: string; y: string }
  /**
   * The private half: it signs, and cannot be exported. Absent where the browser cannot store it,
   * and in a transaction that uses the key of the session: the session record has it.
   */
  privateKey?: CryptoKey
}

/** A signed-in user: everything about the session, in one record. */
export interface ActiveRecord {
  status: 'active'
  /** Counts every change of the record, over all sessions: a copy with a lower number is old. */
  generation: number
  /** Names this sign-in. A result that belongs to another one is dropped. */
  session: string
  /** ms since 1970 */
  since: number
  claims: Claims
  subject?: string
  scope: string
  /** What shaped the sign-in: silent logins ask for the same. From `login({ params })`. */
  params?: Record<string, string>
  /** Only ever a hint for the authorization server; it never leaves the worker. */
  idToken?: string
  /** A silent login with this ID token as a hint has failed, and one without it was answered. */
  hintRefused?: true
  accessToken?: string
  /** ms since 1970 */
  accessTokenIssuedAt: number
  /** ms since 1970; absent if the server did not say */
  accessTokenExpiresAt?: number
  refreshToken?: string
  /**
   * When this refresh token was first sent without a decisive answer (ms since 1970). Written
   * before it is sent, removed by a decisive answer, put back as it was by any other. If it is
   * there, the server may have seen the token and replaced it.
   */
  refreshSentAt?: number
  /**
   * When the access token was issued that an API has refused (ms since 1970): it counts only while
   * `accessTokenIssuedAt` is the same.
   */
  accessTokenRefused?: number
  /**
   * Failed renewals in a row, and when the next one may be tried (ms since 1970). `asked`: the
   * server itself has asked for this pause. `refused`: when, first and last, refreshes in a row
   * were refused in words that an outage could have brought as well (ms since 1970).
   */
  retry?: {
    failures: number
    notBefore: number
    asked?: true
    refused?: { first: number; last: number }
  }
  /** A hidden frame has signed in for this session before, so it is worth trying. */
  silentLoginWorks?: true
  /** Hidden frames in a row without success, and when the last one ended (ms since 1970). */
  silentLoginFailed?: { times: number; at: number }
  /** A hash of the subject. It outlives the session, to recognise the next user. */
  user?: string
  /** A second user has signed in here: the browser's cache has answers for both. */
  usersChanged?: true
  /** The generation of the last logout. It outlives later sessions. */
  loggedOut?: number
  /** Pages have got `login-required`; they get it once. */
  loginRequired?: true
  /** Endpoints of the server that never get a token as if they were an API. */
  protocolEndpoints: readonly string[]
  /** What both tokens are bound to, with the option `dpop`. */
  dpopKey?: DpopKey
  /** Names the last end of a session: what was cached for a user before it is not for reading. */
  lastEnd?: string
  /** Names the last sign-out, or change of users: what was to be sent before it is not sent. */
  lastSignOut?: string
}

/** Nobody is signed in (any more). */
export interface EndedRecord {
  status: 'ended'
  generation: number
  reason: SignedOutReason
  /** The server's own word, if it was that. */
  code?: InteractionCode
  /** As in `ActiveRecord`. */
  user?: string
  usersChanged?: true
  loggedOut?: number
  lastEnd?: string
  lastSignOut?: string
}

export type SessionRecord = ActiveRecord | EndedRecord

/** The active record, if somebody is signed in. */
export const activeOf = (record: SessionRecord | undefined): ActiveRecord | undefined =>
  record?.status === 'active' ? record : undefined

/** The generation of the last logout, if there was one: what began before it comes too late. */
export const lastLogoutOf = (record: SessionRecord | undefined): number | undefined =>
  record?.status === 'ended' && record.reason === 'logout' ? record.generation : record?.loggedOut

/** What an authorization request is checked with when its answer comes. It stays in the worker. */
export interface RequestSecrets {
  nonce: string
  verifier: string
  redirectUri: string
  dpopKey?: DpopKey
}

/** A way to the authorization server and back. A page has begun it, and holds its ticket. */
export interface BegunTransaction {
  kind: 'login' | 'silent' | 'check' | 'logout'
  /** ms since 1970 */
  createdAt: number
  /** Where the browser goes at the end; absolute, on this origin. */
  returnTo: string
  /** Additional parameters from the page's `login({ params })`. */
  params?: Record<string, string>
  /** The session it was started from, if there was one. */
  session?: string
  /** The generation of the record that it was started from. */
  generation?: number
  /** A silent login that goes without the hint, because the one before it failed with it. */
  hintless?: true
  /** Set when the browser leaves. */
  report?: undefined
}

/** The browser has left for the server, which knows this transaction by its `state`. */
export interface DepartedTransaction extends Omit<BegunTransaction, 'report'> {
  /** Under this key lies the outcome for the one who waits for it: the hash of the ticket. */
  report: string
  /** Absent in a logout, whose answer proves nothing but itself. */
  sent?: RequestSecrets
}

export type Transaction = BegunTransaction | DepartedTransaction

/** What became of a transaction; kept for a second arrival of the same answer. */
export interface Outcome {
  kind: 'outcome'
  /** ms since 1970 */
  createdAt: number
  returnTo: string
  /** `exchanging` until the code has been redeemed: a stopped worker leaves it at that. */
  result: 'exchanging' | 'signed-in' | 'logged-out' | { error: TokenErrorData }
  /** While `exchanging`: a page of this scope waits for it to land, not a hidden frame. */
  login?: string
}

/** The server's metadata, and when it was fetched: ms since 1970. */
export interface StoredMetadata {
  metadata: object
  fetchedAt: number
}

/** The server's public keys, and when they were fetched: ms since 1970. */
export interface StoredKeys {
  keys: JsonWebKey[]
  fetchedAt: number
  /** They were fetched for a token that none of them fits. */
  inVain?: boolean
}

/** What DPoP keeps beside the keys of the sessions. */
export interface DpopState {
  /** The newest nonce of each origin (RFC 9449 8.2). */
  nonces: Record<string, string>
  /** Only there while the worker tries whether keys can be stored; it signs nothing. */
  probe?: CryptoKey
}
