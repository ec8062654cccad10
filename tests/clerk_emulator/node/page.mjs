// One page of an application that is made with a framework; `framework` is @clerk/clerk-react or @clerk/react.
import { ClerkProvider, SignIn, useUser } from "framework";
import { createElement } from "react";
import { createRoot } from "react-dom/client";

const Page = () => {
  const { isLoaded, isSignedIn, user } = useUser();
  if (!isLoaded) return createElement("p", null, "Loading");
  if (!isSignedIn) return createElement(SignIn, { routing: "hash" });
  return createElement("p", null, `Signed in as ${user.firstName}`, createElement("img", { src: user.imageUrl, alt: "you" }));
};

createRoot(document.getElementById("here")).render(createElement(ClerkProvider, window.options, createElement(Page)));
