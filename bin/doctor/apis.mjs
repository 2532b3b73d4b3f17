// The APIs, as far as the browser has a say: CORS for a request with a token, and for a refusal.

import { headerList, isExposed, isReadable, whyUnreadable } from './cross-origin.mjs'
import { describe } from './web.mjs'

/**
 * @typedef {import('./web.mjs').Web} Web
 * @typedef {import('./web.mjs').Answer} Answer
 * @typedef {import('./report.mjs').Report} Report
 */

/** @param {string} pathname */
const segmentsOf = (pathname) => pathname.split('/').filter((segment) => segment !== '')

/** Whether an entry of the option apis covers a URL. @param {URL} entry @param {URL} url */
const covers = (entry, url) =>
  entry.origin === url.origin &&
  segmentsOf(entry.pathname).every((segment, index) => segmentsOf(url.pathname)[index] === segment)

/**
 * Whether requests of the app belong to what the worker's script names.
 *
 * @param {Report} report @param {string[]} apis
 * @param {{ urls: string[], isWhole: boolean } | undefined} named In the script
 * @param {string} scope
 */
export const checkCoverage = (report, apis, named, scope) => {
  const entries = (named?.urls ?? [])
    .filter((entry) => URL.canParse(entry, scope))
    .map((entry) => new URL(entry, scope))
  for (const api of apis) {
    const entry = entries.find((each) => covers(each, new URL(api)))
    if (entry) report.pass('api.covered', `The entry ${entry.href} of apis covers ${api}`)
    else if (named?.isWhole) {
      const { origin, pathname } = new URL(api)
      const isOwn = origin === new URL(scope).origin
      const [first] = segmentsOf(pathname)
      report.fail(
        'api.covered',
        `The option apis does not cover ${api}. It has ${
          entries.map(({ href }) => href).join(', ') || 'no entry'
        }.`,
        'Requests to it carry no token, and get the answer of the API to a stranger. Scheme, host ' +
          'and port have to be the same, and the path has to begin with whole segments.',
        `Add '${isOwn ? `/${first ? `${first}/` : ''}` : `${origin}/`}' to apis in the worker's script.`,
      )
    } else {
      report.note(
        'api.covered',
        `Whether the option apis covers ${api} cannot be read in the worker's script.`,
      )
    }
  }
}

/** @param {Web} web @param {Report} report @param {string[]} apis @param {string} origin The app's */
export const checkApis = async (web, report, apis, origin) => {
  for (const url of apis) {
    const isOwn = new URL(url).origin === origin
    if (!isOwn && !(await checkPreflights(web, report, url, origin))) continue
    await checkRefusal(web, report, url, isOwn ? undefined : origin)
  }
}

/** @param {Web} web @param {Report} report @param {string} url @param {string} origin */
const checkPreflights = async (web, report, url, origin) => {
  for (const method of ['GET', 'POST']) {
    const answer = await web.ask(url, {
      method: 'OPTIONS',
      headers: {
        origin,
        'access-control-request-method': method,
        'access-control-request-headers': 'authorization',
      },
    })
    const problem = whyRefused(answer, origin)
    if (!problem) continue
    report.fail(
      'api.preflight',
      `${url}: the preflight of a ${method} with a token ${problem}.`,
      'The browser does not send the request: it fails as a network error.',
      `Answer OPTIONS with Access-Control-Allow-Origin: ${origin} and ` +
        'Access-Control-Allow-Headers: Authorization, without asking for a token.',
    )
    return false
  }
  report.pass('api.preflight', `${url} takes requests with a token from ${origin}.`)
  return true
}

/**
 * @param {import('./web.mjs').Answer | import('./web.mjs').NoAnswer} answer
 * @param {string} origin
 */
const whyRefused = (answer, origin) => {
  if (answer.problem !== undefined || answer.status < 200 || answer.status > 299) {
    return describe(answer)
  }
  if (!isReadable(answer, origin)) return whyUnreadable(answer, origin)
  const names = headerList(answer, 'access-control-allow-headers')
  if (!names.includes('authorization')) {
    return names.includes('*')
      ? 'allows the headers *, which does not cover Authorization'
      : 'does not allow the header Authorization'
  }
  return undefined
}

/** A request without a token. @param {Web} web @param {Report} report @param {string} url
 * @param {string} [origin] Absent for the app's own */
const checkRefusal = async (web, report, url, origin) => {
  const answer = await web.ask(url, { headers: { accept: '*/*', ...(origin && { origin }) } })
  if (answer.problem !== undefined) {
    return report.fail(
      'api.answer',
      `${url} ${describe(answer)}.`,
      'Requests to it fail.',
      'Check the URL in the option apis, and whether the API is up.',
    )
  }
  if (origin && !isReadable(answer, origin)) {
    return report.warn(
      'api.answer',
      `${url} answers ${answer.status} and ${whyUnreadable(answer, origin)}, unlike to the preflight.`,
      'A 401 that the worker may not read looks like no network: the token is not renewed, and the ' +
        'request not repeated.',
      'Send the CORS headers with errors too, also those that a gateway makes.',
    )
  }
  const hidden = ['www-authenticate', 'retry-after', 'dpop-nonce'].filter(
    (name) => origin && answer.headers.has(name) && !isExposed(answer, name),
  )
  if (hidden.length > 0) {
    return report.warn(
      'api.answer',
      `${url} sends ${hidden.join(', ')}, and scripts may not see it.`,
      'With WWW-Authenticate the worker tells a token that is over from one that is not enough; ' +
        'DPoP cannot do without DPoP-Nonce.',
      `Access-Control-Expose-Headers: ${hidden.join(', ')}`,
    )
  }
  report.pass('api.answer', `${url} answers ${answer.status} without a token, readable.`)
}
