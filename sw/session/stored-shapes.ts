/** What a stored value has to look like: any script of the origin may have written it. */
import { fits, isWithin, type Shape } from '../values/shape.js'
import type { Outcome, SessionRecord, Transaction } from './records.js'

/**
 * Characters and members of one stored value. Several times what a server can send: an answer is
 * 256 KiB at most.
 */
const mostStored = 2_000_000

/** What is kept of a value, if it has its shape and is not too large to be looked through. */
export const storedIn = <T>(raw: unknown, shape: Shape): T | undefined =>
  isWithin(mostStored, raw) && fits(raw, shape) ? (raw as T) : undefined

const dpopKey: Shape = {
  jkt: 'string',
  jwk: { crv: 'string', kty: 'string', x: 'string', y: 'string' },
  'privateKey?': 'key',
}

/** What outlives a session. */
const lasting: Shape = {
  generation: 'number',
  'user?': 'string',
  'usersChanged?': 'boolean',
  'loggedOut?': 'number',
  'lastEnd?': 'string',
  'lastSignOut?': 'string',
}

const active: Shape = {
  ...lasting,
  session: 'string',
  since: 'number',
  claims: 'object',
  'subject?': 'string',
  scope: 'string',
  'params?': 'strings',
  'idToken?': 'string',
  'hintRefused?': 'boolean',
  'accessToken?': 'printable',
  accessTokenIssuedAt: 'number',
  'accessTokenExpiresAt?': 'number',
  'refreshToken?': 'string',
  'refreshSentAt?': 'number',
  'accessTokenRefused?': 'number',
  'retry?': {
    failures: 'number',
    notBefore: 'number',
    'asked?': 'boolean',
    'refused?': { first: 'number', last: 'number' },
  },
  'silentLoginWorks?': 'boolean',
  'silentLoginFailed?': { times: 'number', at: 'number' },
  'loginRequired?': 'boolean',
  protocolEndpoints: ['string'],
  'dpopKey?': dpopKey,
}

const ended: Shape = { ...lasting, reason: 'string', 'code?': 'string' }

const entry: Shape = {
  kind: 'string',
  createdAt: 'number',
  returnTo: 'string',
  'params?': 'strings',
  'session?': 'string',
  'generation?': 'number',
  'hintless?': 'boolean',
  'report?': 'string',
  'sent?': { nonce: 'string', verifier: 'string', redirectUri: 'string', 'dpopKey?': dpopKey },
  'login?': 'string',
}

const failure: Shape = { error: { code: 'string', message: 'string' } }

/** What is used of the metadata, apart from the endpoints: `checkMetadata` looks at those. */
const metadata: Shape = {
  issuer: 'string',
  'id_token_signing_alg_values_supported?': ['string'],
  'authorization_response_iss_parameter_supported?': 'boolean',
  'require_pushed_authorization_requests?': 'boolean',
}

export const metadataShape: Shape = { metadata, fetchedAt: 'number' }
/** The check of signatures looks at each key, since a server may publish some of its own form. */
export const keysShape: Shape = { keys: ['any'], fetchedAt: 'number', 'inVain?': 'boolean' }
export const dpopShape: Shape = { nonces: 'object' }

/** The session record, if it is one. */
export const sessionRecordIn = (raw: unknown): SessionRecord | undefined => {
  const { status } = Object(raw) as SessionRecord
  const shape = status === 'ended' ? ended : status === 'active' ? active : undefined
  return shape && storedIn(raw, shape)
}

/** The transaction or outcome, if it is one. */
export const transactionIn = (raw: unknown): Transaction | Outcome | undefined => {
  const found = storedIn<Transaction | Outcome>(raw, entry)
  const isWhole =
    found?.kind !== 'outcome' || fits(found.result, 'string') || fits(found.result, failure)
  return isWhole ? found : undefined
}
