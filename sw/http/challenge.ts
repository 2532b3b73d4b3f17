import type { WireEvent } from '../../src/shared/protocol.js'
import { bytesOf } from '../values/base64.js'
import { isRecord } from '../values/shape.js'

/** No honest challenge is longer. What follows is not read. */
const mostCharacters = 8_192

/**
 * A word of a `WWW-Authenticate` header (RFC 9110 11.6.1), and its value if it has one: quoted in
 * one of two ways (only double quotes are right), or not. Every word is a match, so that none of
 * its characters is the beginning of another try.
 */
const word = /([\w-]+)(?:\s*=\s*(?:"((?:[^"\\]|\\.)*)"|'([^']*)'|([^\s,"]*)))?/g

/** What an answer asks for: the schemes, and the parameters of all of them. */
interface Challenge {
  schemes: readonly string[]
  /** Of two with one name, the first counts. */
  params: ReadonlyMap<string, string>
}

/** The challenge in an answer (RFC 6750 3); empty where there is none, or CORS hides it. */
export const challengeOf = ({ headers }: Response): Challenge => {
  const schemes: string[] = []
  const params = new Map<string, string>()
  const text = (headers.get('www-authenticate') ?? '').slice(0, mostCharacters)
  for (const [, name = '', double, single, plain] of text.matchAll(word)) {
    const value = double ?? single ?? plain
    const key = name.toLowerCase()
    if (value === undefined) schemes.push(key)
    else if (!params.has(key)) params.set(key, value)
  }
  return { schemes, params }
}

/** The token is good, and not good enough. The last one is Entra's. */
const notEnough = /^insufficient_(scope|user_(authentication)|(claims))$/i

/** It is the request that is wrong, or its DPoP proof. */
const notTheToken = /^(invalid_request|invalid_dpop_proof|use_dpop_nonce)$/i

/** What they ask for is no token: it is for something in front of the API. */
const withoutToken = /^(basic|digest|negotiate|ntlm)$/

/**
 * Can a new token of the same kind help against this 401? What does not say otherwise may mean an
 * expired token: APIs have many codes for that, and some have none.
 */
export const isForNewToken = (response: Response): boolean => {
  const { schemes, params } = challengeOf(response)
  const error = params.get('error')
  if (error !== undefined) return !notEnough.test(error) && !notTheToken.test(error)
  return schemes.length === 0 || !schemes.every((scheme) => withoutToken.test(scheme))
}

/** Words as RFC 6749 3.3 has them in a scope: what else is in there goes to no page. */
const words = /^[ !#-[\]-~]{1,300}$/

/** Characters of JSON: it becomes a part of a URL. */
const mostClaims = 2_000

/** The JSON object in base64 that is a claims challenge; nothing if it is something else. */
const claimsIn = (text = ''): Record<string, string> => {
  try {
    const claims = new TextDecoder().decode(bytesOf(text))
    return claims.length <= mostClaims && isRecord(JSON.parse(claims)) ? { claims } : {}
  } catch {
    return {}
  }
}

/**
 * What an API asks for that a new token of the same kind would not bring: more scope
 * (RFC 6750 3.1), or a stronger or more recent sign-in (RFC 9470 3, or Entra's claims challenge).
 */
export const stepUpOf = (response: Response): WireEvent | undefined => {
  const { params } = challengeOf(response)
  const [error, , authentication, claims] = notEnough.exec(params.get('error') ?? '') ?? []
  if (!error) return
  const take = (name: string, form = words): Record<string, string> => {
    const value = params.get(name) ?? ''
    return form.test(value) ? { [name]: value } : {}
  }
  return {
    type: 'step-up',
    wants: (authentication ?? claims) ? 'authentication' : 'scope',
    params: {
      ...take('acr_values'),
      ...take('max_age', /^\d{1,9}$/),
      ...(claims && claimsIn(params.get('claims'))),
    },
    ...take('scope'),
  }
}
