// The network's copy of the auth pages: inert, and unreadable for frames and openers.

import { liveParts, PAGES } from '../auth-pages.mjs'
import { isNone, parsePolicies } from './content-security-policy.mjs'
import { describe, isHtml, targetOf } from './web.mjs'

/**
 * @typedef {import('./web.mjs').Web} Web
 * @typedef {import('./web.mjs').Answer} Answer
 * @typedef {import('./report.mjs').Report} Report
 * @typedef {import('./report.mjs').Level} Level
 */

const CODE = 'tokenward-doctor-code'
const RECIPES = 'The header recipes are in docs/security.md.'
const WITHOUT_WORKER =
  'Where the worker is missing (removed, failed to start, passed by), the network gets the ' +
  'answer of the authorization server, code included.'

/**
 * @param {Web} web @param {Report} report
 * @param {{ scope: string, authPath: string, redirectUri: string, homeText: string }} app
 */
export const checkAuthPages = async (web, report, app) => {
  await checkCallback(web, report, app)
  const others = PAGES.filter((name) => name !== 'callback').map(
    (name) => new URL(`${app.authPath}${name}.html`, app.scope).href,
  )
  const checked = await Promise.all(others.map((url) => checkOther(web, url, app)))

  const bad = checked.filter(({ problem }) => problem)
  for (const { url, problem } of bad) {
    report.fail(
      'auth-pages.body',
      `${new URL(url).pathname} ${problem}.`,
      'The app shell in its place runs the app inside of the hidden frame, or once more on the ' +
        'way to the sign-in.',
      'Copy the five pages with npx tokenward init, and keep the host from answering with the ' +
        'app instead.',
    )
  }
  if (bad.length === 0) report.pass('auth-pages.body', 'The other four are inert pages too.')

  const bare = checked.filter(({ problem, missing }) => !problem && missing.length > 0)
  const headers = [...new Set(bare.flatMap(({ missing }) => missing))]
  if (headers.length > 0) {
    const names = bare.map(({ url }) => url.slice(url.lastIndexOf('/') + 1)).join(', ')
    report.warn(
      'auth-pages.headers',
      `${names}: no ${headers.join(', ')} as in the recipe.`,
      'They get no code, but tickets and states pass through their URLs.',
      `Give the whole folder the headers of the callback page. ${RECIPES}`,
    )
  } else if (bad.length === 0) {
    report.pass('auth-pages.headers', 'They have the headers of the recipe.')
  }
}

/**
 * Follows the redirect to the name without `.html`, as some hosts have it; no other.
 *
 * @param {Web} web @param {string} url
 */
const askForPage = async (web, url) => {
  const headers = { accept: 'text/html' }
  const first = await web.ask(url, { headers })
  if (first.problem !== undefined) return first
  const target = targetOf(first)
  const short = new URL(url)
  short.pathname = short.pathname.replace(/\.html$/, '')
  const isShortName =
    target?.origin === short.origin && target.pathname.replace(/\/$/, '') === short.pathname
  return isShortName ? web.ask(target, { headers }) : first
}

/**
 * What keeps an answer from being an inert page; undefined if it is one.
 *
 * @param {import('./web.mjs').Answer | import('./web.mjs').NoAnswer} answer
 * @param {string} homeText
 */
const whyNotInert = (answer, homeText) => {
  if (answer.problem !== undefined || answer.status !== 200) return describe(answer)
  if (!isHtml(answer)) return `is ${answer.headers.get('content-type') ?? 'of no type'}, not HTML`
  const live = liveParts(answer.text)
  if (live.length === 0) return undefined
  return answer.text === homeText
    ? 'is answered with the page of the app'
    : `is not inert: it has ${live.join(', ')}`
}

/** @param {Web} web @param {string} url @param {{ homeText: string }} app */
const checkOther = async (web, url, { homeText }) => {
  const answer = await askForPage(web, url)
  const problem = whyNotInert(answer, homeText)
  const missing =
    answer.problem === undefined
      ? headerFindings(answer).flatMap(({ name, bad }) => (bad ? name : []))
      : []
  return { url, problem, missing }
}

/** @param {Web} web @param {Report} report @param {{ redirectUri: string, homeText: string }} app */
const checkCallback = async (web, report, { redirectUri, homeText }) => {
  const { pathname } = new URL(redirectUri)
  const answered = `${redirectUri}?code=${CODE}&state=tokenward-doctor&iss=x`
  const direct = await web.ask(answered, { headers: { accept: 'text/html' } })
  const target = direct.problem === undefined ? targetOf(direct) : undefined
  const answer = await askForPage(web, answered)

  // A redirect away from the code is as good as an inert page, if it leaves nothing behind.
  if (direct.problem === undefined && target && answer.problem === undefined && targetOf(answer)) {
    return checkRedirect(report, pathname, direct, target)
  }

  const problem = whyNotInert(answer, homeText)
  if (problem) {
    return report.fail(
      'callback.body',
      `${pathname} ${problem}.`,
      `${WITHOUT_WORKER} ${
        answer.problem === undefined && answer.status === 200
          ? 'What runs there can read it.'
          : 'The user is left with an error page, and hosts like to put scripts into those.'
      }`,
      'Copy the inert pages with npx tokenward init into the folder that the site serves; keep ' +
        'rewrites to the app away from them. Another folder: --auth-path, another redirect URI: ' +
        '--redirect-uri.',
    )
  }
  if (answer.problem !== undefined) return
  report.pass('callback.body', `${pathname} is an inert page, asked with a code too.`)

  const plain = await askForPage(web, redirectUri)
  if (plain.problem === undefined && plain.text !== answer.text) {
    report.warn(
      'callback.query',
      `${pathname} differs when it is asked without a query.`,
      'Something on the way acts on the code.',
      'Serve a plain file.',
    )
  }
  for (const { id, bad, name, value, why } of headerFindings(answer)) {
    if (bad) report.add(bad, `callback.${id}`, `${name}: ${value}.`, why, RECIPES)
    else report.pass(`callback.${id}`, `${name}: ${value}`)
  }
}

/** @param {Report} report @param {string} pathname @param {Answer} answer @param {URL} target */
const checkRedirect = (report, pathname, answer, target) => {
  const location = answer.headers.get('location') ?? ''
  const found = `${pathname} redirects to ${location}`
  if (target.href.includes(CODE)) {
    report.fail(
      'callback.body',
      `${found}.`,
      `${WITHOUT_WORKER} The redirect takes the code along, to where scripts run.`,
      'Serve the inert page there, or redirect to a URL without the query that ends in #.',
    )
  } else if (!location.includes('#')) {
    report.fail(
      'callback.body',
      `${found}, without a #.`,
      'Browsers carry the fragment of the old URL over to the new one, unless that has its own: ' +
        'a code that comes in the fragment arrives in the app.',
      `Let Location end in #: ${location}#`,
    )
  } else {
    report.pass('callback.body', `${found}, which leaves the code behind.`)
  }
}

/**
 * Each header of the recipe, and how bad it is that it is missing: some do the work of others.
 *
 * @param {Answer} answer
 * @returns {{ id: string, name: string, value: string, bad?: Level, why: string }[]}
 */
const headerFindings = ({ headers, text }) => {
  const policies = parsePolicies(headers.get('content-security-policy'))
  /** @param {string} name */
  const strictest = (name) => policies.map((policy) => policy.get(name)).filter((v) => v)
  const sandbox = strictest('sandbox').some(
    (flags) => !flags?.some((flag) => /^allow-(?:scripts|same-origin)$/i.test(flag)),
  )
  const noScripts = policies.some((policy) =>
    isNone(policy.get('script-src') ?? policy.get('default-src')),
  )
  const nothing = strictest('default-src').some(isNone)
  const ancestors = strictest('frame-ancestors').some(isNone)
  const get = (/** @type {string} */ name) => headers.get(name)?.trim().toLowerCase() ?? ''
  const frameOptions = get('x-frame-options')
  const opener = get('cross-origin-opener-policy').split(';')[0] ?? ''
  const referrer = get('referrer-policy')
  const isolated = /^(?:same-origin|noopener-allow-popups)$/.test(opener)
  const metaReferrer = /<meta\s+name="referrer"\s+content="no-referrer"/i.test(text)
  const policy = 'Content-Security-Policy'

  return [
    {
      id: 'sandbox',
      name: `${policy} sandbox`,
      value: sandbox ? 'yes' : strictest('sandbox').length > 0 ? 'with exceptions' : 'missing',
      ...(!sandbox && { bad: 'failure' }),
      why: 'It gives the page an origin of its own, so that no frame around it and no window that opened it can read its URL.',
    },
    {
      id: 'default-src',
      name: `${policy} default-src`,
      value: nothing ? "'none'" : policies.length > 0 ? "not 'none'" : 'missing',
      ...(!nothing && { bad: noScripts ? 'warning' : 'failure' }),
      why: 'Whatever a host, a proxy or a later deployment puts into the page, nothing of it runs or loads.',
    },
    {
      id: 'frame-ancestors',
      name: `${policy} frame-ancestors`,
      value: ancestors ? "'none'" : policies.length > 0 ? "not 'none'" : 'missing',
      ...(!ancestors && { bad: frameOptions === 'deny' ? 'warning' : 'failure' }),
      why: 'A hidden frame is how a script would collect a code without the user.',
    },
    {
      id: 'x-frame-options',
      name: 'X-Frame-Options',
      value: frameOptions ? frameOptions.toUpperCase() : 'missing',
      ...(frameOptions !== 'deny' && { bad: 'warning' }),
      why: "It stands in where frame-ancestors is lost, and for its 'none' only DENY does.",
    },
    {
      id: 'opener',
      name: 'Cross-Origin-Opener-Policy',
      value: opener || 'missing',
      ...(!isolated && { bad: sandbox ? 'warning' : 'failure' }),
      why: 'A window that was opened for the sign-in stays readable for its opener otherwise.',
    },
    {
      id: 'referrer',
      name: 'Referrer-Policy',
      value: referrer || 'missing',
      ...(referrer !== 'no-referrer' && { bad: metaReferrer ? 'warning' : 'failure' }),
      why: 'The link back to the app would take the URL along, for every script there to read.',
    },
    {
      id: 'nosniff',
      name: 'X-Content-Type-Options',
      value: get('x-content-type-options') || 'missing',
      ...(get('x-content-type-options') !== 'nosniff' && { bad: 'warning' }),
      why: 'The page is HTML and nothing else.',
    },
    {
      id: 'cache',
      name: 'Cache-Control',
      value: get('cache-control') || 'missing',
      ...(!/\bno-store\b/.test(get('cache-control')) && { bad: 'failure' }),
      why: 'A cache keeps the whole URL, code included, and an old page after an update.',
    },
  ]
}
