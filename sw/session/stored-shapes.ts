/** What a stored value has to look like: any script of the origin may have written it. */
import { fits, isObject, type Shape } from '../values/shape.js'
import type { Outcome, SessionRecord, Transaction } from './records.js'

const active: Shape = {
  generation: 'number',
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
    'refused?': { first: 'number', last: 'number' },
  },
  'silentLoginFailed?': { times: 'number', at: 'number' },
  protocolEndpoints: 'list',
  'loggedOut?': 'number',
}

const ended: Shape = {
  generation: 'number',
  reason: 'string',
  'code?': 'string',
  'loggedOut?': 'number',
}

const entry: Shape = {
  createdAt: 'number',
  returnTo: 'string',
  'params?': 'strings',
  'session?': 'string',
  'generation?': 'number',
  'hintless?': 'boolean',
  'report?': 'string',
  'sent?': { nonce: 'string', verifier: 'string', redirectUri: 'string' },
}

const failure: Shape = { error: { code: 'string', message: 'string' } }

export const metadataShape: Shape = { metadata: 'object', fetchedAt: 'number' }
export const keysShape: Shape = { keys: 'list', fetchedAt: 'number' }
export const dpopShape: Shape = { nonces: 'object' }

/** The session record, if it is one. */
export const sessionRecordIn = (raw: unknown): SessionRecord | undefined => {
  const { status } = Object(raw) as SessionRecord
  const isOne =
    (status === 'ended' && fits(raw, ended)) || (status === 'active' && fits(raw, active))
  return isOne ? (raw as SessionRecord) : undefined
}

/** The transaction or outcome, if it is one. */
export const transactionIn = (raw: unknown): Transaction | Outcome | undefined => {
  if (!fits(raw, entry) || !isObject(raw)) return
  const { kind, result } = raw
  const isWhole =
    kind === 'outcome' ? fits(result, 'string') || fits(result, failure) : fits(kind, 'string')
  return isWhole ? (raw as unknown as Transaction | Outcome) : undefined
}
